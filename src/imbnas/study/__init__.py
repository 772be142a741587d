"""Studies: the chain over a grid of parameters."""
