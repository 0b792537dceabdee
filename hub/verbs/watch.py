"""`edgequilt hub watch`: the fleet and the running round, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

from console.arguments import above_zero
from console.errors import HubError
from console.screen import is_terminal, screen
from hub.show import watch
from hub.verbs.common import Row, add_verb, ask

EVERY_S = 1.0


def parse(verbs: Any) -> None:
    """Its options."""
    made = add_verb(verbs, "watch", _watch, "the fleet and the running rounds, until Ctrl-C", of_model=False)
    made.add_argument(
        "--every", type=above_zero, default=EVERY_S, metavar="S", help="seconds between looks (default: 1)"
    )
    made.add_argument("--once", action="store_true", help="one page, and back to the prompt")


def _watch(options: argparse.Namespace) -> int:
    look = _look(options)  # no hub at all is an error; one that goes away later is waited for
    if options.once:
        print(json.dumps(look) if options.json else watch.page(look))
        return 0
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        show = stack.enter_context(screen()) if is_terminal() and not options.json else None
        before: Row | None = None
        for found in _looks(options, look):
            if show is not None:
                show(watch.page(found) if found else "the hub does not answer; waiting for it\n")
            elif found and found != before:
                lines = [json.dumps(found)] if options.json else watch.news(before, found)
                print(*lines, sep="\n", end="\n" if lines else "", flush=True)
            before = found or before
    return 0


def _looks(options: argparse.Namespace, first: Row) -> Iterator[Row]:
    """One look after another; empty while the hub does not answer."""
    yield first
    while True:
        time.sleep(max(options.every, 0.1))
        try:
            found = _look(options)
        except HubError:
            found = {}
        yield found


def _look(options: argparse.Namespace) -> Row:
    status = ask(options, {"request": "status"})
    return {"status": status, "rounds": [_shown(options, r["round"]) for r in status["rounds_open"]]}


def _shown(options: argparse.Namespace, number: int) -> Row:
    return ask(options, {"request": "show", "round": number})
