"""Example formats."""
