"""Adapter folders: what an adaptation trained, saved alone in the layout of the package peft, beside its base."""
