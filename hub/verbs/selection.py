"""The options of `round open` that say whom it asks, and how it goes on from version to version."""

from __future__ import annotations

import argparse
from typing import Any

from console.arguments import Arguments, whole
from hub.rounds.selection import NETWORKS
from hub.verbs.common import names

ASKED = ("devices", "select", "group", "tag", "power", "network", "memory_bytes")
MODE = ("mode", "buffer", "laps", "staleness", "over")
MIB = 1 << 20


def parse(opened: Arguments) -> None:
    """What `hub.rounds.selection.selection_of` and `hub.rounds.modes.mode_of` read."""
    opened.add_argument("--devices", type=names, help="their names with commas (default: all that are able)")
    opened.add_argument("--select", metavar="RULE", help="all, random:N, or need:N (rows that no version has seen)")
    opened.add_argument("--group", help="only devices of this group")
    opened.add_argument("--tag", help="only devices with this tag")
    opened.add_argument("--power", metavar="P", help="only on mains, or with at least P per cent of battery")
    opened.add_argument("--network", choices=NETWORKS, help="only devices on such a network")
    opened.add_argument("--memory", type=_mib, dest="memory_bytes", metavar="MIB", help="with so much memory available")
    opened.add_argument("--over", type=float, metavar="X", help="ask a share of X more devices than are wanted")
    opened.add_argument("--mode", choices=("synchronous", "buffered"), help="train: versions of rounds, or of a buffer")
    opened.add_argument(
        "--buffer", type=whole(1), metavar="K", help="buffered: updates for a version; 1: each makes one"
    )
    opened.add_argument("--laps", type=whole(0), metavar="N", help="train: so many versions; 0: until stopped")
    opened.add_argument(
        "--staleness", type=whole(0), metavar="N", help="buffered: versions that an update may have missed"
    )


def selection_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was given, by the names of the request."""
    return {name: getattr(options, name) for name in (*ASKED, *MODE) if getattr(options, name) is not None}


def _mib(text: str) -> int:
    return round(float(text) * MIB)
