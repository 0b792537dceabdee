"""`edgequilt hub broker-config | certificate`: for a broker that the hub does not start itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hub import authority
from hub.brokers.foreign import CONFIGURATIONS
from hub.config import read_config
from hub.verbs.common import add_verb, say
from wire.files import write_atomic


def parse(verbs: Any) -> None:
    """Their options."""
    text = "print what a broker of your own must be told"
    config = add_verb(verbs, "broker-config", _config, text, of_model=False)
    config.add_argument("broker", choices=tuple(CONFIGURATIONS))
    text = "make a key and a certificate of this fleet for a broker of your own"
    certificate = add_verb(verbs, "certificate", _certificate, text, of_model=False)
    certificate.add_argument("host", nargs="+", help="the names and addresses under which devices reach it")
    certificate.add_argument("--out", type=Path, required=True, help="folder for ca.pem, broker.pem and broker.key")


def _config(options: argparse.Namespace) -> int:
    text = CONFIGURATIONS[options.broker](read_config(options.hub).fleet)
    return say(options, {"broker": options.broker, "configuration": text}, text.rstrip())


def _certificate(options: argparse.Namespace) -> int:
    found = authority.create(read_config(options.hub).fleet, options.hub)
    authority.issue_server(found, options.host, options.out, "broker")
    write_atomic(options.out / "ca.pem", authority.trusted(options.hub))
    files = {name: str(options.out / name) for name in ("ca.pem", "broker.pem", "broker.key")}
    return say(options, {"files": files, "hosts": options.host}, "\n".join(files.values()))
