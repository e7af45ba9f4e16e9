"""The tests of this room share a tiny run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
