"""The long stories of boards are told by `make boot` alone: they take up to a quarter of an hour."""

from __future__ import annotations

import os

LONG = "EDGEQUILT_LONG_BOOTS"
collect_ignore = [] if os.environ.get(LONG) else ["test_hardships.py"]
