"""Which layer gets how many bits, under a budget."""
