"""The feed: from formats and a store to packed micro-batches."""
