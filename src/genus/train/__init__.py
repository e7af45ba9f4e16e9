"""Training (station 6): the training loop, data loading, checkpoints and metrics."""
