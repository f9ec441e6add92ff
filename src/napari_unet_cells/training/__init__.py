"""Training and retraining of networks, and their evaluation."""
