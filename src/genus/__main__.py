"""Entry point of `python -m genus`, which runs the command line."""

import sys

from genus.cli import main

sys.exit(main())
