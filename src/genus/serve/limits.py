"""What a server bears: requests, their sizes, their time, and the memory of models."""

from __future__ import annotations

from genus.part import Count, Part, Positive

NUMBER = 20
"""Bytes of a number in JSON, about."""


class Limits(Part):
    """Limits of a server; what is over them is refused with a status that says so, before it costs anything."""

    requests: Count = 512
    """Requests that are worked on or wait; more are told to come again (429)."""
    waiting_tokens: Count = 262_144
    """Tokens that wait for a forward pass of a model; more are told to come again (429)."""
    batch_tokens: Count = 8_192
    """Token positions of a forward pass."""
    texts: Count = 256
    """Texts of one request, or images (413)."""
    image_pixels: Count = 16_777_216
    """Pixels of an image, 4,096 x 4,096 (413)."""
    tokens: Count = 65_536
    """Tokens of one request (413)."""
    body_bytes: Count = 4_000_000
    """Bytes of a request's body (413)."""
    answer_bytes: Count = 100_000_000
    """Bytes of an answer, about, where a small request may have a large one (413)."""
    seconds: Positive = 60.0
    """From the arrival of a request to its answer (504); what is generated until then is not lost if it is streamed."""
    generated_tokens: Count = 2_048
    """Tokens that a request may ask for (400)."""
    slots: Count = 32
    """Texts that are generated together."""
    memory: float | None = None
    """Gigabytes of weights in memory: models that were not asked for the longest time are unloaded; None: no limit."""
