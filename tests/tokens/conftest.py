"""The tokenizer tests share texts, in `corpora.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
