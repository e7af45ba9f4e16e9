"""AdamW, with and without bias correction."""

from __future__ import annotations
