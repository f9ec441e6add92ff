"""The Segment section of the dock."""
