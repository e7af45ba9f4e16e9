"""`python -m genus` is the command line."""

import sys

from genus.cli import main

sys.exit(main())
