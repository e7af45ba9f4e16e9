"""The tokenizer tests share texts, in `hard_texts.py`, and what holds of every tokenizer, in `read_back.py`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("read_back")
