"""Next-sentence prediction (Devlin et al. 2018, section 3.1, task 2)."""

from __future__ import annotations
