"""One module for each library that computes a network."""
