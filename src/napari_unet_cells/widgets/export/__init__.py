"""The Export section of the dock."""
