"""`edgequilt hub release`: which version is served."""

from __future__ import annotations

import argparse
from typing import Any

from hub import show
from hub.verbs.common import add_verb, ask, say


def parse(verbs: Any) -> None:
    """Their options."""
    release = add_verb(verbs, "release", _release, "roll a version out by hand, or back to an older one")
    release.add_argument("version", help="its number")


def _release(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "release", "version": options.version})
    return say(options, found, show.status_text(found))
