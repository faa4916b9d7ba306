"""What can be counted from the network alone: MACs, FLOPs, parameters, bytes, peak memory."""
