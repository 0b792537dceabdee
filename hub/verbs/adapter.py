"""`edgequilt hub adapter export | import`: a version out of the hub, and an adapter in as one."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from console.arguments import whole
from console.errors import UsageError
from hub.store import registry
from hub.verbs.common import add_verb, ask_or_do, say


def parse(verbs: Any) -> None:
    """Their options."""
    parser = verbs.add_parser("adapter", help="take a version out, or bring an adapter in")
    adapters = parser.add_subparsers(dest="adapter_verb", required=True)
    out = add_verb(adapters, "export", _export, "write a version as a PEFT folder or an adapter file")
    out.add_argument("--format", choices=("peft", "safetensors"), default="peft", help="(default: peft)")
    out.add_argument("--version", default="released", help="a number, tip or released (default: released)")
    out.add_argument("--rank", type=whole(1), help="only its first directions (default: all)")
    out.add_argument("--base", default="", help="peft: what it is told that it belongs to (default: the model's id)")
    out.add_argument("--out", type=Path, required=True, help="a folder for PEFT, else a file")
    into = add_verb(adapters, "import", _import, "make a version of an adapter; work goes on from it")
    into.add_argument("adapter", type=Path, help="a folder that PEFT wrote, or an adapter file")


def _export(options: argparse.Namespace) -> int:
    from hub.making.export_adapter import export_adapter

    if options.base and options.format != "peft":
        raise UsageError("expected --base with --format peft only, found safetensors; leave one of them out")
    home = registry.open_home(options.hub, reading=True)
    try:
        found = export_adapter(
            home, options.version, options.rank, options.base, options.out, options.format, options.model
        )
    finally:
        home.ledger.close()
    return say(options, found, f"version {found['version']} at rank {found['rank']} is in {found['out']}")


def _import(options: argparse.Namespace) -> int:
    from hub.making.import_adapter import import_adapter

    path = options.adapter.resolve()
    request = {"request": "import", "path": str(path)}
    found = ask_or_do(options, request, lambda home: import_adapter(home, path, time.time(), options.model))
    lost = max(found["tails"].values(), default=0.0)
    text = f"version {found['version']} ({found['digest'][:12]}) is the tip; truncation cut off a norm of {lost:.3g}"
    return say(options, found, text + ("" if found["has_head"] else "; it has no head: open a statistics round"))
