"""Tokenization algorithms, one per module."""
