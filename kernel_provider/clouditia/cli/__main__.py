"""``python -m clouditia.cli`` is the same as ``clouditia``."""

import sys

from clouditia.cli import main

sys.exit(main())
