"""`edgequilt hub init | up | add | enroll | status`: make a hub, run it, tell it who belongs to it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from hub import authority
from hub.config import read_config
from hub.show import status as show_status
from hub.store import registry
from hub.verbs.common import add_verb, ask, ask_or_do, say
from wire.files import read_bytes, write_atomic
from wire.keys import KEY_FILE_LIMIT_BYTES


def parse(verbs: Any) -> None:
    """Their options."""
    _parse_init(verbs)
    _parse_up(verbs)
    add = add_verb(verbs, "add", _add, "take in a signed bundle; the first one of a model begins it", of_model=False)
    add.add_argument("bundle", type=Path)
    enroll = add_verb(verbs, "enroll", _enroll, "believe a device", of_model=False)
    enroll.add_argument("name")
    enroll.add_argument("--key", type=Path, required=True, help="the device's .pub file")
    enroll.add_argument("--replace", action="store_true", help="believe its former key no longer")
    enroll.add_argument("--request", type=Path, help="its .csr file, for a certificate that opens the broker")
    enroll.add_argument("--certificate", type=Path, help="where to write that (default: NAME.pem beside the request)")
    add_verb(verbs, "status", _status, "devices, versions, open rounds", of_model=False)


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
    up.add_argument("--broker", metavar="amqtt|mosquitto|URL", help="which broker (default: what hub.toml says)")
    up.add_argument("--port", type=int, help="another port for a broker that the hub starts; 0 takes a free one")
    up.add_argument("--web-port", type=int, help="another port for HTTPS; 0 takes a free one (as --port 0 does)")
    up.add_argument("--server-agent", type=Path, help="configuration of an agent to run beside the hub")
    up.add_argument("--json", action="store_true")
    up.set_defaults(run=_up)


def _init(options: argparse.Namespace) -> int:
    public = registry.create(options.folder, options.fleet, options.publisher, options.listen)
    found = {"hub": str(options.folder), "public": str(public), "fleet": options.fleet}
    return say(
        options, found, f"{public}  (give it to the agents of this fleet)\nstart it: edgequilt hub up {options.folder}"
    )


def _up(options: argparse.Namespace) -> int:
    from hub.serving.process import up

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    return up(options.folder, options.broker, options.port, options.server_agent, options.json, options.web_port)


def _add(options: argparse.Namespace) -> int:
    folder = options.bundle.resolve()
    found = ask_or_do(
        options, {"request": "add", "folder": str(folder)}, lambda home: registry.add_bundle(home, folder)
    )
    return say(
        options, found, f"bundle {found['bundle'][:12]} of {found['model']} for {found['device']}, rank {found['rank']}"
    )


def _enroll(options: argparse.Namespace) -> int:
    line = read_bytes(options.key, "a public key", KEY_FILE_LIMIT_BYTES).decode(errors="replace")
    request = {"request": "enroll", "name": options.name, "line": line, "replace": options.replace}
    signed = None if options.request is None else _certificate(options)  # what cannot be read is said before
    found = ask_or_do(options, request, lambda home: registry.enroll(home, options.name, line, replace=options.replace))
    text = f"{found['device']} is enrolled with key {found['key']}"
    if signed is not None:
        path = options.certificate or options.request.with_name(f"{options.name}.pem")
        write_atomic(path, signed)
        found = {**found, "certificate": str(path), "ca": str(options.hub / authority.CERTIFICATE)}
        text += f"; give it {path} and {found['ca']}"
    return say(options, found, text)


def _certificate(options: argparse.Namespace) -> bytes:
    request = read_bytes(options.request, "a signing request", authority.FILE_LIMIT_BYTES)
    made = authority.create(read_config(options.hub).fleet, options.hub)
    return authority.issue_device(made, options.name, request)


def _status(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "status"})
    return say(options, found, show_status.status_text(found))
