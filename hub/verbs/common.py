"""What the verbs share: the hub's folder, asking the hub that runs on it, saying what was found."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.arguments import Arguments
from console.errors import UsageError
from hub.config import read_config
from hub.serving import control
from hub.store import registry

Row = dict[str, Any]


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, *, of_model: bool = True
) -> Arguments:
    """A verb with what all verbs take; `run` gets its options. `of_model`: it is about one of the hub's models."""
    made: Arguments = verbs.add_parser(name, help=text, description=text)
    made.add_argument(
        "--hub",
        type=Path,
        default=Path(os.environ.get("EDGEQUILT_HUB", ".")),
        help="the hub's folder (default: EDGEQUILT_HUB, or here)",
    )
    made.add_argument("--json", action="store_true")
    if of_model:
        made.add_argument("--model", metavar="ID", default="", help="which model, where the hub has several")
    made.set_defaults(run=run)
    return made


def ask(options: argparse.Namespace, request: Row) -> Row:
    """Ask the running hub; a folder without a hub is named as such."""
    read_config(options.hub)
    return control.ask(options.hub, _of_model(options, request))


def _of_model(options: argparse.Namespace, request: Row) -> Row:
    model = getattr(options, "model", "")
    return {**request, "model": model} if model else request


def ask_or_do(options: argparse.Namespace, request: Row, directly: Callable[[registry.Home], Row]) -> Row:
    """Ask the running hub, or do it on the folder while none runs."""
    read_config(options.hub)  # a folder without a hub is named as such
    if control.is_running(options.hub):
        return control.ask(options.hub, _of_model(options, request))
    with registry.alone(options.hub):
        home = registry.open_home(options.hub)
        try:
            return directly(home)
        finally:
            home.ledger.close()


def say(options: argparse.Namespace, found: Row, text: str) -> int:
    """Print what was found, as JSON or as text; returns the exit code."""
    print(json.dumps(found) if options.json else text)
    return 0


def names(text: str) -> list[str]:
    """The type of an option that takes names with commas.

    >>> names("barn, coop")
    ['barn', 'coop']
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise UsageError(f"expected names with commas between them, found {text!r}")
    return found


def numbers(text: str) -> list[int]:
    """The type of an option that takes ranks with commas.

    >>> numbers("2,16")
    [2, 16]
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"expected numbers with commas between them, found {text!r}") from error
    if not found or min(found) < 1:
        raise UsageError(f"expected ranks of 1 or more, found {text!r}")
    return found
