"""Probes: what a pretrained model knows, asked without fine-tuning it.

Cloze sentences ask for words that are missing, pairs of sentences for what a model takes to be likelier, and linear
probes for what can be read off the hidden states of each layer.
"""
