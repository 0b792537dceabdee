"""Waiting for what the hub is doing, with a bar of the devices that have done their part."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from console.progress import progress
from hub.verbs.common import Row, ask

POLL_S = 0.5
Ended = Callable[[Row], bool]


def wait(options: argparse.Namespace, found: Row, request: Row, title: str, total: int, done: str, ended: Ended) -> Row:
    """Ask again until it is over.

    Args:
        options: of the command.
        found: the first answer; it has a `state`.
        request: what to ask again.
        title: of the bar.
        total: how many devices take part.
        done: the field of an answer that says how many have done their part.
        ended: whether an answer is the last one.
    """
    with progress(title, total, unit="devices", quiet=options.json) as bar:
        before = 0
        while not ended(found):
            time.sleep(POLL_S)
            found = ask(options, request)
            bar.advance(found[done] - before)
            bar.say(f"{title}: {found['state']}")
            before = found[done]
    return found
