"""How the weights of a layer become integers: one file a family of grids."""
