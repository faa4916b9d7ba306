"""How far to cut: the plan that meets every limit of a budget, on the device if it must."""
