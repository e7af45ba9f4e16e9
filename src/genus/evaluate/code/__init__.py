"""Evaluation of written programs: problems with unit tests, execution under limits, and pass@k (Chen et al. 2021)."""
