"""The house rules read source that is parsed once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
