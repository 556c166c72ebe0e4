"""``python -m clouditia_gateway.host LAUNCH_JSON``."""

from __future__ import annotations

import sys

from clouditia_gateway.host import main

sys.exit(main())
