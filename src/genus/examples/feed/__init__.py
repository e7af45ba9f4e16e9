"""The feed: it turns example formats and a token store into packed micro-batches."""
