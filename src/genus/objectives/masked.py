"""The masked language model (Devlin et al. 2018, section 3.1, task 1)."""

from __future__ import annotations
