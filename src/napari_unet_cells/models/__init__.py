"""Model files, their cards and networks."""
