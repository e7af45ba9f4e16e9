"""Serving: model folders behind HTTP, in the routes that clients of other servers speak."""
