"""Station 6: the one training loop, its feeding, checkpoints and records."""
