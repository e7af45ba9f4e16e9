"""Tokenizer files of transformers and of sentencepiece."""
