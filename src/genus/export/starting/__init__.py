"""Initialization from other weights: transferred vocabularies, distillation teachers, auxiliary models."""
