"""From an image to labelled cells."""
