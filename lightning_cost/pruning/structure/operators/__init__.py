"""What each operator of a forward pass does to the labels of channels."""
