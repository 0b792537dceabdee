"""mosquitto as a child of the hub: TLS with client certificates, an access list by certificate, queues on disk.

The access list names every device, so that one that is revoked is shut out at once: mosquitto reads it again on SIGHUP
and asks it at every message, of connections that stand as well.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

from console.errors import MissingDependency, TransportError
from hub.brokers.rules import (
    MAX_INFLIGHT,
    MAX_PACKET_BYTES,
    MAX_QUEUED_BYTES,
    MAX_QUEUED_MESSAGES,
    SESSION_EXPIRY,
    Rule,
)
from hub.children import surroundings
from wire.files import write_atomic

START_TIMEOUT_S, STOP_TIMEOUT_S = 10.0, 10.0
LOG_SHOWN_BYTES = 2000
LOG_LIMIT_BYTES = 1 << 20  # a longer log of earlier starts is begun anew


def configuration(host: str, port: int, folder: Path, user: str) -> str:
    """mosquitto.conf: `folder` holds ca.pem, broker.pem, broker.key and broker.acl, and takes what must last."""
    return f"""\
# Written by edgequilt at every start of the hub; changes are lost.
listener {port} {host.strip("[]")}
cafile {folder / "ca.pem"}
certfile {folder / "broker.pem"}
keyfile {folder / "broker.key"}
tls_version tlsv1.2
# who a client is, its certificate says; there is no other way in
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder / "broker.acl"}
# what waits for a board that sleeps: on disk, up to so many bytes for each
persistence true
persistence_location {folder}/
persistence_file broker.db
autosave_interval 30
max_queued_messages {MAX_QUEUED_MESSAGES}
max_queued_bytes {MAX_QUEUED_BYTES}
max_inflight_messages {MAX_INFLIGHT}
persistent_client_expiration {SESSION_EXPIRY}
max_packet_size {MAX_PACKET_BYTES}
max_keepalive 600
# small messages leave at once: else each waits up to 40 ms for the answer to the one before
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
log_timestamp_format %Y-%m-%dT%H:%M:%S
user {user}
"""


def access_list(rules: list[Rule]) -> str:
    """broker.acl.

    >>> print(access_list([Rule("barn", ("a/#",), ("b",))]))
    user barn
    topic write a/#
    topic read b
    <BLANKLINE>
    """
    blocks = []
    for rule in rules:
        lines = [f"topic write {pattern}" for pattern in rule.write] + [f"topic read {p}" for p in rule.read]
        blocks.append("\n".join([f"user {rule.name}", *lines]))
    return "\n\n".join(blocks) + "\n"


class Mosquitto:
    """A mosquitto that serves one hub's folder until `close`.

    Raises:
        MissingDependency: the program is not installed.
        TransportError: it does not start; its own words are in the sentence.
    """

    def __init__(self, host: str, port: int, folder: Path, rules: list[Rule]) -> None:
        self.host, self.port, self.folder = host, port or _free_port(host), folder
        self._log = folder / "broker.log"
        program = _program()
        write_atomic(folder / "broker.acl", access_list(rules).encode(), mode=0o600)
        text = configuration(host, self.port, folder, pwd.getpwuid(os.getuid()).pw_name)
        write_atomic(folder / "broker.conf", text.encode(), mode=0o600)
        keeps = self._log.exists() and self._log.stat().st_size < LOG_LIMIT_BYTES
        with self._log.open("ab" if keeps else "wb") as log:
            self._process = subprocess.Popen(
                [*_mortal(), program, "-c", str(folder / "broker.conf")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=surroundings(),
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.close()
            raise

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def allow(self, rules: list[Rule]) -> None:
        """Let in whom the rules name, and nobody else, from now on."""
        write_atomic(self.folder / "broker.acl", access_list(rules).encode(), mode=0o600)
        if self.is_running:
            self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """End it; it writes down what waits."""
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.is_running:
            if _listens(self.host, self.port):
                return
            time.sleep(0.02)
        raise TransportError(
            f"expected mosquitto to listen on {self.host}:{self.port}, it does not; it says: {self._said()}; "
            f"its configuration is {self.folder / 'broker.conf'}"
        )

    def _said(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_SHOWN_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "nothing"


def _program() -> str:
    found = shutil.which(
        "mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
    )
    if found is None:
        raise MissingDependency(
            "edgequilt hub up --broker mosquitto needs the program mosquitto: apt-get install mosquitto"
        )
    return found


def _mortal() -> list[str]:
    """What makes a program end with the hub, even one that is killed: else the next hub would find its port taken."""
    found = shutil.which("setpriv")  # of util-linux
    return [] if found is None else [found, "--pdeathsig", "TERM", "--"]


def _listens(host: str, port: int) -> bool:
    bare = host.strip("[]")
    reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare, bare)  # noqa: S104  # where to reach what listens everywhere
    try:
        with closing(socket.create_connection((reach, port), timeout=1)):
            return True
    except OSError:
        return False


def _free_port(host: str) -> int:
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    with closing(socket.socket(family)) as found:
        found.bind((bare, 0))
        return int(found.getsockname()[1])
