"""`edgequilt hub bundle list | assign | show`: which bundles there are, and which device gets which."""

from __future__ import annotations

import argparse
from typing import Any

from console.table import mib, table
from hub.verbs.common import add_verb, ask, say


def parse(verbs: Any) -> None:
    """Their options."""
    below = verbs.add_parser("bundle", help="bundles: which there are, and which device gets which").add_subparsers(
        dest="bundle_verb", required=True
    )
    add_verb(below, "list", _list, "all bundles, and whether the hub keeps their files", of_model=False)
    made = add_verb(below, "assign", _assign, "give devices a bundle; they fetch it over HTTPS", of_model=False)
    made.add_argument("device", nargs="*", help="enrolled devices")
    made.add_argument("bundle", help="its digest or the beginning of that, or the kind of board it was made for")
    made.add_argument("--group", default="", help="all devices of a group")
    add_verb(below, "show", _show, "which device gets which bundle, and how far it is", of_model=False)


def _list(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "bundle list"})
    rows = [
        [b["sha256"][:12], b["model"], b["device"], b["rank"], mib(b["bytes"]), "kept" if b["kept"] else b["folder"]]
        for b in found["bundles"]
    ]
    text = table(["bundle", "model", "made for", "rank", "size", "files"], rows) if rows else "no bundle yet"
    return say(options, found, text)


def _assign(options: argparse.Namespace) -> int:
    request = {"request": "bundle assign", "bundle": options.bundle, "devices": options.device, "group": options.group}
    found = ask(options, request)
    return say(options, found, f"bundle {found['bundle'][:12]} is that of {', '.join(found['devices'])}")


def _show(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "bundle show"})
    rows = [
        [d["device"], d["has"][:12] or "-", d["assigned"][:12] or "-", d["why"] or "-", d["state"] or "-"]
        for d in found["devices"]
    ]
    return say(options, found, table(["device", "has", "gets", "why", "state"], rows) if rows else "no device yet")
