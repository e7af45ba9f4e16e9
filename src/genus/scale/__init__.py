"""Scaling laws: ladders of runs, laws fitted to them, and what they predict of runs that are not made yet."""
