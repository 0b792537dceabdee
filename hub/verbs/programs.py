"""`edgequilt hub release add | list | assign | show`: releases of the agent, and which device is to be which."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.table import mib, table
from hub.programs.keeping import add_program
from hub.verbs.common import add_verb, ask, ask_or_do, say


def parse(verbs: Any) -> None:
    """Their options."""
    below = verbs.add_parser(
        "release", help="releases of the agent: take them in, give them to devices"
    ).add_subparsers(dest="release_verb", required=True)
    add = add_verb(below, "add", _add, "take in a signed release of the agent", of_model=False)
    add.add_argument("folder", type=Path, help="as `edgequilt release` writes it")
    add_verb(below, "list", _list, "all releases, and for which system they are", of_model=False)
    made = add_verb(below, "assign", _assign, "have devices become a release, or an older one again", of_model=False)
    made.add_argument("device", nargs="*", help="enrolled devices")
    made.add_argument("--version", required=True, help="0.1.0+1f3c9a40, 0.1.0, or the beginning of its digest")
    made.add_argument("--group", default="", help="all devices of a group")
    add_verb(below, "show", _show, "which device is which release, and how far it is", of_model=False)


def _add(options: argparse.Namespace) -> int:
    folder = options.folder.resolve()
    request = {"request": "release add", "folder": str(folder)}
    found = ask_or_do(options, request, lambda home: add_program(home, folder))
    return say(options, found, f"release {found['version']} for {found['system']}, {mib(found['stream_bytes'])} packed")


def _list(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "release list"})
    rows = [
        [r["version"], r["system"], mib(r["bytes"]), mib(r["stream_bytes"]), r["sha256"][:12]]
        for r in found["releases"]
    ]
    text = table(["release", "made for", "size", "packed", "digest"], rows) if rows else "no release yet"
    return say(options, found, text)


def _assign(options: argparse.Namespace) -> int:
    request = {"request": "release assign", "release": options.version, "devices": options.device}
    found = ask(options, {**request, "group": options.group})
    text = ", ".join(f"{name}: {version}" for name, version in found["devices"].items())
    return say(options, found, f"{text}; see `edgequilt hub release show`")


def _show(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "release show"})
    rows = [[d["device"], d["has"] or "-", d["assigned"] or "-", d["state"] or "-"] for d in found["devices"]]
    return say(options, found, table(["device", "is", "is to be", "state"], rows) if rows else "no device yet")
