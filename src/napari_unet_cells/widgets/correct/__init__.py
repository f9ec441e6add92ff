"""The Correct section of the dock."""
