"""Which channels of a network go, in what order, and their physical removal."""
