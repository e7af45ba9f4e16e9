"""Station 9, evaluation: metrics with their confidence intervals, and mask filling."""
