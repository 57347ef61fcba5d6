"""One file a family: configuration, spec and checkpoint keys."""
