"""`edgequilt hub collect | forget`: what a hub keeps of its boards, and for how long."""

from __future__ import annotations

import argparse
import time
from typing import Any

from console.table import mib
from hub.store.collecting import collect
from hub.verbs.common import Row, add_verb, ask, ask_or_do, say


def parse(verbs: Any) -> None:
    """Their options."""
    collected = add_verb(verbs, "collect", _collect, "delete what [retention] keeps no longer", of_model=False)
    collected.add_argument("--dry-run", action="store_true", help="only say what would go")
    forgotten = add_verb(verbs, "forget", _forget, "forget what a board sent and said", of_model=False)
    forgotten.add_argument("name")


def _collect(options: argparse.Namespace) -> int:
    request = {"request": "collect", "dry_run": options.dry_run}
    found = ask_or_do(options, request, lambda home: collect(home, time.time(), dry_run=options.dry_run))
    what = "would be deleted" if options.dry_run else "were deleted"
    updates = f"{found['updates']} update{'' if found['updates'] == 1 else 's'}"
    return say(options, found, f"{updates} and {found['blobs']} files ({mib(found['bytes'])}) {what}")


def _forget(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "forget", "name": options.name})
    return say(options, found, forgotten_text(found))


def forgotten_text(found: Row) -> str:
    """What was forgotten, what was made again, and what stays."""
    name = found["device"]
    lines = [f"{found['updates']} updates of {name} ({mib(found['bytes'])}) and what it said of itself are gone"]
    for model, of in found["models"].items():
        if of["heads"]:
            numbers = ", ".join(map(str, of["heads"]))
            lines.append(f"{model}: version {numbers}: the head as if {name} had never been there")
        lines += [f"{model}: {why}" for why in of["not_made"]]
        if of["trained_in"]:
            before, numbers = of["trained_in"][0] - 1, ", ".join(map(str, of["trained_in"]))
            lines.append(
                f"{model}: version {numbers}: what was trained on {name} is in it and cannot be taken out; go back "
                f"with `edgequilt hub rollback {before}` and train without it"
            )
    lines.append(
        f"{name} stays enrolled and will say hello again: set agent.take_part = false on it, or revoke it, if it shall "
        f"take no part"
    )
    return "\n".join(lines)
