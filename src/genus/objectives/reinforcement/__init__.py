"""Objectives of reinforcement learning: a policy learns from rewards of the texts that it writes itself."""
