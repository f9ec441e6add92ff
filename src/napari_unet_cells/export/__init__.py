"""Labels as files for other programs."""
