"""`edgequilt hub`: make a hub, run it, tell it who belongs to it, open rounds, look at them."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.arguments import Arguments
from console.errors import HubError, UsageError
from console.progress import progress
from hub import control, registry, show
from hub.config import read_config
from wire.files import read_bytes
from wire.keys import KEY_FILE_LIMIT_BYTES

POLL_S = 0.5
Row = dict[str, Any]


def main(argv: list[str]) -> int:
    """`edgequilt hub init | up | add | enroll | round | status | release | adapter`."""
    options = _parser().parse_args(argv)
    code: int = options.run(options)
    return code


def _parser() -> Arguments:
    parser = Arguments(prog="edgequilt hub", description="Run the hub of a fleet.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _parse_init(verbs)
    _parse_up(verbs)
    add = _verb(verbs, "add", _add, "take in a signed bundle; the first one gives the hub its model")
    add.add_argument("bundle", type=Path)
    enroll = _verb(verbs, "enroll", _enroll, "believe a device")
    enroll.add_argument("name")
    enroll.add_argument("--key", type=Path, required=True, help="the device's .pub file")
    _verb(verbs, "status", _status, "devices, versions, open rounds")
    release = _verb(verbs, "release", _release, "roll a version out by hand, or back to an older one")
    release.add_argument("version", help="its number")
    _parse_round(verbs)
    _parse_adapter(verbs)
    return parser


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Arguments:
    made: Arguments = verbs.add_parser(name, help=text, description=text)
    made.add_argument(
        "--hub",
        type=Path,
        default=Path(os.environ.get("EDGEQUILT_HUB", ".")),
        help="the hub's folder (default: EDGEQUILT_HUB, or here)",
    )
    made.add_argument("--json", action="store_true")
    made.set_defaults(run=run)
    return made


def _parse_init(verbs: Any) -> None:
    init = verbs.add_parser("init", help="make a hub: its key and its hub.toml")
    init.add_argument("folder", type=Path)
    init.add_argument("--fleet", default="home", help="the name that all topics begin with (default: home)")
    init.add_argument("--publisher", type=Path, action="append", default=[], help="a .pub file whose bundles to take")
    init.add_argument("--listen", default="127.0.0.1:1883", help="HOST:PORT of the embedded broker")
    init.add_argument("--json", action="store_true")
    init.set_defaults(run=_init)


def _parse_up(verbs: Any) -> None:
    up = verbs.add_parser("up", help="run the hub until Ctrl-C")
    up.add_argument("folder", type=Path, nargs="?", default=Path(os.environ.get("EDGEQUILT_HUB", ".")))
    up.add_argument("--port", type=int, help="another port for the embedded broker; 0 takes a free one")
    up.add_argument("--server-agent", type=Path, help="configuration of an agent to run beside the hub")
    up.add_argument("--json", action="store_true")
    up.set_defaults(run=_up)


def _parse_round(verbs: Any) -> None:
    parser = verbs.add_parser("round", help="open rounds and look at them")
    rounds = parser.add_subparsers(dest="round_verb", required=True)
    opened = _verb(rounds, "open", _round_open, "open a round")
    opened.add_argument("--kind", choices=("statistics", "train", "evaluate"), required=True)
    opened.add_argument("--devices", type=_names, help="their names with commas (default: all that are able)")
    opened.add_argument("--steps", type=int)
    opened.add_argument("--batch", type=int)
    opened.add_argument("--learning-rate", type=float)
    opened.add_argument("--seed", type=int)
    opened.add_argument("--ranks", type=_numbers, help="evaluate: at these ranks; train: at most this rank")
    opened.add_argument("--split", choices=("holdout", "all"), help="evaluate: on which rows")
    opened.add_argument("--minimum-per-class", type=int, help="statistics: leave out classes with fewer rows")
    opened.add_argument("--versions", type=_names, help="evaluate: numbers, tip or released, with commas")
    opened.add_argument(
        "--gate",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the result is a candidate for release (default: after statistics)",
    )
    opened.add_argument("--deadline", type=float, metavar="S", help="seconds")
    opened.add_argument("--wait", action="store_true", help="until the round is done")
    shown = _verb(rounds, "show", _round_show, "everything about a round")
    shown.add_argument("number", type=int)
    _verb(rounds, "list", _round_list, "all rounds")
    stop = _verb(rounds, "stop", _round_stop, "end an open round; nothing is made of it")
    stop.add_argument("number", type=int)


def _parse_adapter(verbs: Any) -> None:
    adapter = _verb(verbs, "adapter", _adapter, "write a version as a PEFT adapter")
    adapter.add_argument("--version", default="released", help="a number, tip or released (default: released)")
    adapter.add_argument("--rank", type=int, help="only its first directions (default: all)")
    adapter.add_argument("--base", required=True, help="the original model, as PEFT should name it")
    adapter.add_argument("--out", type=Path, required=True)


def _init(options: argparse.Namespace) -> int:
    public = registry.create(options.folder, options.fleet, options.publisher, options.listen)
    found = {"hub": str(options.folder), "public": str(public), "fleet": options.fleet}
    return _say(
        options, found, f"{public}  (give it to the agents of this fleet)\nstart it: edgequilt hub up {options.folder}"
    )


def _up(options: argparse.Namespace) -> int:
    from hub.process import up

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    return up(options.folder, options.port, options.server_agent, options.json)


def _add(options: argparse.Namespace) -> int:
    folder = options.bundle.resolve()
    found = _either(options, {"request": "add", "folder": str(folder)}, lambda home: registry.add_bundle(home, folder))
    return _say(
        options, found, f"bundle {found['bundle'][:12]} of {found['model']} for {found['device']}, rank {found['rank']}"
    )


def _enroll(options: argparse.Namespace) -> int:
    line = read_bytes(options.key, "a public key", KEY_FILE_LIMIT_BYTES).decode(errors="replace")
    request = {"request": "enroll", "name": options.name, "line": line}
    found = _either(options, request, lambda home: registry.enroll(home, options.name, line))
    return _say(options, found, f"{found['device']} is enrolled with key {found['key']}")


def _status(options: argparse.Namespace) -> int:
    found = _ask(options, {"request": "status"})
    return _say(options, found, show.status_text(found))


def _release(options: argparse.Namespace) -> int:
    found = _ask(options, {"request": "release", "version": options.version})
    return _say(options, found, show.status_text(found))


def _round_open(options: argparse.Namespace) -> int:
    settings = {
        n: getattr(options, n)
        for n in ("steps", "batch", "learning_rate", "seed", "ranks", "split", "minimum_per_class")
    }
    request = {
        "request": "open",
        "kind": options.kind,
        "devices": options.devices,
        "settings": settings,
        "versions": options.versions,
        "gate": options.gate,
        "deadline_s": options.deadline,
    }
    found = _ask(options, request)
    if options.wait:
        found = _wait(options, found)
    _say(options, found, show.round_text(found))
    if options.wait and found["state"] == "failed":
        raise HubError(f"expected round {found['round']} to complete, it failed: {found['sentence']}")
    return 0


def _wait(options: argparse.Namespace, found: Row) -> Row:
    number, total = found["round"], len(found["per_device"])
    with progress(f"round {number} ({found['kind']})", total, unit="devices", quiet=options.json) as bar:
        answered = 0
        while found["open"]:
            time.sleep(POLL_S)
            found = _ask(options, {"request": "show", "round": number})
            bar.advance(found["answered"] - answered)
            bar.say(f"round {number} ({found['kind']}): {found['state']}")
            answered = found["answered"]
    return found


def _round_show(options: argparse.Namespace) -> int:
    found = _ask(options, {"request": "show", "round": options.number})
    return _say(options, found, show.round_text(found))


def _round_stop(options: argparse.Namespace) -> int:
    found = _ask(options, {"request": "stop", "round": options.number})
    return _say(options, found, show.round_text(found))


def _round_list(options: argparse.Namespace) -> int:
    found = _ask(options, {"request": "list"})
    return _say(options, found, show.rounds_text(found["rounds"]))


def _adapter(options: argparse.Namespace) -> int:
    from hub.export_adapter import export_adapter

    home = registry.open_home(options.hub)
    try:
        found = export_adapter(home, options.version, options.rank, options.base, options.out)
    finally:
        home.ledger.close()
    return _say(options, found, f"version {found['version']} at rank {found['rank']} is in {found['out']}")


def _ask(options: argparse.Namespace, request: Row) -> Row:
    """Ask the running hub; a folder without a hub is named as such."""
    read_config(options.hub)
    return control.ask(options.hub, request)


def _either(options: argparse.Namespace, request: Row, directly: Callable[[registry.Home], Row]) -> Row:
    """Ask the running hub, or do it on the folder while none runs."""
    read_config(options.hub)  # a folder without a hub is named as such
    if control.is_running(options.hub):
        return control.ask(options.hub, request)
    with registry.alone(options.hub):
        home = registry.open_home(options.hub)
        try:
            return directly(home)
        finally:
            home.ledger.close()


def _say(options: argparse.Namespace, found: Row, text: str) -> int:
    print(json.dumps(found) if options.json else text)
    return 0


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"expected names with commas between them, found {text!r}")
    return names


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"expected numbers with commas between them, found {text!r}") from error
    if not found or min(found) < 1:
        raise UsageError(f"expected ranks of 1 or more, found {text!r}")
    return found
