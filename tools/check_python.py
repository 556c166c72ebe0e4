"""Say in one sentence when this Python is too old; runs on any Python 3."""

import sys

OLDEST = (3, 11)

if sys.version_info < OLDEST:
    sys.exit(
        "Clouditia needs Python %d.%d or newer, this is %s (%s). Name another one: make PYTHON=..."
        % (*OLDEST, sys.version.split()[0], sys.executable)
    )
