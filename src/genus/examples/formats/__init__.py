"""Example formats: single segments, sentence pairs and contiguous text."""
