"""`edgequilt hub release | adapter`: which version is served, and taking one out of the hub."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hub import registry, show
from hub.verbs.common import add_verb, ask, say


def parse(verbs: Any) -> None:
    """Their options."""
    release = add_verb(verbs, "release", _release, "roll a version out by hand, or back to an older one")
    release.add_argument("version", help="its number")
    _parse_adapter(verbs)


def _parse_adapter(verbs: Any) -> None:
    adapter = add_verb(verbs, "adapter", _adapter, "write a version as a PEFT adapter")
    adapter.add_argument("--version", default="released", help="a number, tip or released (default: released)")
    adapter.add_argument("--rank", type=int, help="only its first directions (default: all)")
    adapter.add_argument("--base", required=True, help="the original model, as PEFT should name it")
    adapter.add_argument("--out", type=Path, required=True)


def _release(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "release", "version": options.version})
    return say(options, found, show.status_text(found))


def _adapter(options: argparse.Namespace) -> int:
    from hub.export_adapter import export_adapter

    home = registry.open_home(options.hub)
    try:
        found = export_adapter(home, options.version, options.rank, options.base, options.out)
    finally:
        home.ledger.close()
    return say(options, found, f"version {found['version']} at rank {found['rank']} is in {found['out']}")
