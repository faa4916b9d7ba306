"""Networks and data for small images: what the command line and the demo run on."""
