"""`edgequilt hub init | up | add | status`: make a hub, run it, tell it what it serves."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from console.arguments import whole
from console.errors import UsageError
from hub.hardware import Hardware
from hub.show import status as show_status
from hub.store import registry
from hub.verbs.common import add_verb, ask, ask_or_do, say


def parse(verbs: Any) -> None:
    """Their options."""
    _parse_init(verbs)
    _parse_up(verbs)
    add = add_verb(verbs, "add", _add, "take in a signed bundle; the first one of a model begins it", of_model=False)
    add.add_argument("bundle", type=Path)
    add.add_argument("--no-copy", dest="copy", action="store_false", help="serve its files from where they are")
    add_verb(verbs, "status", _status, "devices, versions, open rounds", of_model=False)


def _parse_init(verbs: Any) -> None:
    init = verbs.add_parser("init", help="make a hub: its key and its hub.toml")
    init.add_argument("folder", type=Path)
    init.add_argument("--fleet", default="home", help="the name that all topics begin with (default: home)")
    init.add_argument("--publisher", type=Path, action="append", default=[], help="a .pub file whose bundles to take")
    init.add_argument("--listen", default="127.0.0.1:1883", help="HOST:PORT of the embedded broker")
    init.add_argument("--pkcs11", type=Path, metavar="MODULE", help="a library of a hardware module for the keys")
    init.add_argument("--token", metavar="LABEL", help="of the module's token that the keys are to be on")
    init.add_argument("--pin-file", type=Path, help="holds its PIN (default: EDGEQUILT_PKCS11_PIN in the environment)")
    init.add_argument("--json", action="store_true")
    init.set_defaults(run=_init)


def _parse_up(verbs: Any) -> None:
    up = verbs.add_parser("up", help="run the hub until Ctrl-C")
    up.add_argument("folder", type=Path, nargs="?", default=Path(os.environ.get("EDGEQUILT_HUB", ".")))
    up.add_argument("--broker", metavar="amqtt|mosquitto|URL", help="which broker (default: what hub.toml says)")
    up.add_argument(
        "--port", type=whole(0, 65535), help="another port for a broker that the hub starts; 0 takes a free one"
    )
    up.add_argument(
        "--web-port", type=whole(0, 65535), help="another port for HTTPS; 0 takes a free one (as --port 0 does)"
    )
    up.add_argument("--server-agent", type=Path, help="configuration of an agent to run beside the hub")
    up.add_argument("--json", action="store_true")
    up.set_defaults(run=_up)


def _init(options: argparse.Namespace) -> int:
    public = registry.create(options.folder, options.fleet, options.publisher, options.listen, _hardware(options))
    found = {"hub": str(options.folder), "public": str(public), "fleet": options.fleet}
    return say(
        options, found, f"{public}  (give it to the agents of this fleet)\nstart it: edgequilt hub up {options.folder}"
    )


def _hardware(options: argparse.Namespace) -> Hardware | None:
    if options.pkcs11 is None and options.token is None and options.pin_file is None:
        return None
    if options.pkcs11 is None or options.token is None:
        raise UsageError("expected --pkcs11 MODULE and --token LABEL together, found one alone; name both")
    if not options.pkcs11.is_file():
        raise UsageError(f"expected a library of a hardware module at {options.pkcs11}, found no file; check the path")
    return Hardware(options.pkcs11, options.token, options.pin_file)


def _up(options: argparse.Namespace) -> int:
    from hub.serving.process import up

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    return up(options.folder, options.broker, options.port, options.server_agent, options.json, options.web_port)


def _add(options: argparse.Namespace) -> int:
    folder = options.bundle.resolve()
    request = {"request": "add", "folder": str(folder), "copy": options.copy}
    found = ask_or_do(options, request, lambda home: registry.add_bundle(home, folder, copy=options.copy))
    return say(
        options, found, f"bundle {found['bundle'][:12]} of {found['model']} for {found['device']}, rank {found['rank']}"
    )


def _status(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "status"})
    return say(options, found, show_status.status_text(found))
