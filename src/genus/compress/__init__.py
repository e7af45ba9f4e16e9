"""Smaller models of a task: quantized to graphs of 8 or 4 bits, and pruned of heads and feed-forward units."""
