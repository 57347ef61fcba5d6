"""Training: collators, the order of the data, optimisers and their schedules."""
