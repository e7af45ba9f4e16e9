"""Tokenizers by algorithm."""
