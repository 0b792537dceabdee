"""`edgequilt hub rotate-key`: another signing key of the hub, which boards learn from the one before."""

from __future__ import annotations

import argparse
from typing import Any

from console.errors import UsageError
from hub.identity import rotation
from hub.store.registry import Home
from hub.verbs.common import Row, add_verb, ask_or_do, say
from wire.record import plain


def parse(verbs: Any) -> None:
    """Their options."""
    text = "announce another key of the hub to all boards; once they know it, use it"
    made = add_verb(verbs, "rotate-key", _rotate, text, of_model=False)
    made.add_argument(
        "--finish", action="store_true", help="sign with the announced key from now on, and drop the other"
    )
    made.add_argument("--anyway", action="store_true", help="also if boards have not said that they know it")


def _rotate(options: argparse.Namespace) -> int:
    if options.anyway and not options.finish:
        raise UsageError(
            "expected --anyway with --finish, found it alone; a key is announced to all boards in any case"
        )

    def directly(home: Home) -> Row:
        found = rotation.finish(home, anyway=options.anyway) if options.finish else rotation.begin(home)
        return dict(plain(found))

    request = {"request": "rotate-key", "finish": options.finish, "anyway": options.anyway}
    found = ask_or_do(options, request, directly)
    return say(options, found, _finished(options, found) if options.finish else _announced(found))


def _announced(found: Row) -> str:
    count = len(found["know"]) + len(found["wait"])
    lines = [f"key {found['next']} is announced: {len(found['know'])} of {count} boards know it; {found['key']} signs"]
    if found["wait"]:
        lines.append(f"not yet: {', '.join(found['wait'])}")
    return "\n".join([*lines, "use it when all know it: edgequilt hub rotate-key --finish"])


def _finished(options: argparse.Namespace, found: Row) -> str:
    return (
        f"the hub signs with key {found['key']}; the one before is gone\n"
        f"keep {options.hub / 'hub.key'} and {options.hub / rotation.CHAIN} elsewhere: a backup of before has the "
        "old key"
    )
