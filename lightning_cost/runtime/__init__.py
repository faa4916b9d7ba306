"""What runs a deployed network, and how long that takes: one contract, one file per runtime."""
