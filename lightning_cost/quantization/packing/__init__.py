"""A quantised network in one file, each weight in the bits that its scheme gives it."""
