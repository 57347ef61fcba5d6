"""Models: specs, checkpoint keys, skeletons, heads and the families."""
