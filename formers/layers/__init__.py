"""Building blocks of the skeletons."""
