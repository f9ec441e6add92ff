"""List of images that are segmented as a batch, beside what is looked at."""
