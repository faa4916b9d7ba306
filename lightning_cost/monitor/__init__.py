"""What the network costs in this run, and what the run has used."""
