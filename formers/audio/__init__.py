"""Sound: reading and resampling it, and the features that speech models read."""
