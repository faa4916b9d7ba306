"""Layers fitted again by least squares after a cut, and statistics of batch norms renewed."""
