"""The Retrain section of the dock."""
