"""`edgequilt hub group | tag`: names for sets of devices, by which rounds and trials choose."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from console.table import table
from hub.requests.groups import KINDS
from hub.verbs.common import Row, add_verb, ask, say


def parse(verbs: Any) -> None:
    """Their options."""
    for kind in KINDS:
        parser = verbs.add_parser(kind, help=f"{kind}s of devices: by which rounds and trials choose")
        below = parser.add_subparsers(dest=f"{kind}_verb", required=True)
        for verb, words in (("add", "give devices a"), ("remove", "take it from devices: a")):
            run = partial(_change, kind, verb == "add")
            made = add_verb(below, verb, run, f"{words} {kind}", of_model=False)
            made.add_argument("name")
            made.add_argument("device", nargs="+")
        add_verb(below, "list", partial(_list, kind), f"all {kind}s, and who has them", of_model=False)


def _change(kind: str, add: bool, options: argparse.Namespace) -> int:
    request = {"request": "name", "of": kind, "name": options.name, "devices": options.device, "add": add}
    return _said(kind, options, ask(options, request))


def _list(kind: str, options: argparse.Namespace) -> int:
    return _said(kind, options, ask(options, {"request": "names", "of": kind}))


def _said(kind: str, options: argparse.Namespace, found: Row) -> int:
    rows = [[name, ", ".join(devices)] for name, devices in found[KINDS[kind]].items()]
    return say(options, found, table([kind, "devices"], rows) if rows else f"no {kind} yet")
