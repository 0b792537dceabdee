"""`edgequilt hub worker`: help a hub to take updates in."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any


def parse(verbs: Any) -> None:
    """Its options."""
    worker = verbs.add_parser("worker", help="take updates in for a hub, beside it, until Ctrl-C")
    worker.add_argument("folder", type=Path, nargs="?", default=Path(os.environ.get("EDGEQUILT_HUB", ".")))
    worker.add_argument("--broker", metavar="URL", default="", help="where the broker is, if not as the hub says")
    worker.add_argument("--json", action="store_true")
    worker.set_defaults(run=_worker)


def _worker(options: argparse.Namespace) -> int:
    from hub.workers.process import work

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    return work(options.folder, options.broker, options.json)
