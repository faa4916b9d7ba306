"""What a network costs at any widths, in bulk: counted, or predicted for a device."""
