"""Learning from preferences: rewards of texts by a model, responses that are rated by it, and policies that seek it."""
