"""mosquitto as a hub starts it, with TLS, client certificates and an access list, or bare: the same queues, no TLS."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.load.processes import child
from hub import authority
from hub.brokers.mosquitto import Mosquitto, _free_port, _listens, _program, configuration
from hub.brokers.rules import rules
from wire.broker import Broker
from wire.tls import new_request

SECURING = ("cafile", "certfile", "keyfile", "tls_version", "require_certificate", "use_identity", "acl_file", "#")
HUB_STEM = "hub-client"


def identities(folder: Path, fleet: str, names: list[str]) -> authority.Authority:
    """A fleet's authority in a folder, and a key and a certificate for every board: NAME.tls.key, NAME.pem."""
    found = authority.create(fleet, folder)
    for name in names:
        _, request = new_request(name, folder)
        (folder / f"{name}.pem").write_bytes(authority.issue_device(found, name, request.read_bytes()))
    return found


def as_board(broker: Broker, folder: Path, name: str) -> Broker:
    """How a board comes in: with its certificate, where the broker wants one."""
    if not broker.tls:
        return broker
    return replace(broker, ca=folder / "ca.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.tls.key")


def as_hub(broker: Broker, folder: Path) -> Broker:
    """How the hub comes in."""
    if not broker.tls:
        return broker
    stem = folder / HUB_STEM
    return replace(broker, ca=folder / "ca.pem", certificate=stem.with_suffix(".pem"), key=stem.with_suffix(".key"))


@contextmanager
def secured(folder: Path, fleet: str, names: list[str], core: int) -> Iterator[tuple[Broker, int]]:
    """A broker as a hub starts it, and its process."""
    found = authority.create(fleet, folder)
    authority.issue_server(found, ["127.0.0.1"], folder, "broker")
    authority.issue_hub(found, folder, HUB_STEM)
    made = Mosquitto("127.0.0.1", 0, folder, rules(fleet, names))
    with closing(made):
        os.sched_setaffinity(made.pid, {core} if core < (os.cpu_count() or 1) else {0})
        yield Broker("127.0.0.1", made.port, tls=True), made.pid


@contextmanager
def bare(folder: Path, core: int | None) -> Iterator[tuple[Broker, int]]:
    """A broker that lets anybody in, and its process."""
    port = _free_port("127.0.0.1")
    user = pwd.getpwuid(os.getuid()).pw_name
    lines = configuration("127.0.0.1", port, folder, user).splitlines()
    kept = [line for line in lines if not line.startswith(SECURING)]
    text = "\n".join(kept).replace("allow_anonymous false", "allow_anonymous true")
    (folder / "bare.conf").write_text(text + "\n")
    command = [_program(), "-c", str(folder / "bare.conf")]
    with (folder / "bare.log").open("wb") as log, child(command, core, stdout=log, stderr=log) as process:
        while not _listens("127.0.0.1", port):
            if process.poll() is not None:
                raise RuntimeError(f"expected mosquitto to start, it says: {(folder / 'bare.log').read_text()}")
            time.sleep(0.02)
        yield Broker("127.0.0.1", port), process.pid
