"""Which channels can go together in any network, and their physical removal."""
