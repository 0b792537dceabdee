"""A board for updates: two releases in a folder, a hub that is another, and what systemd does for an agent."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from edge.slots import launch
from edge.slots.record import Record
from edge.slots.system import own_system
from tests.conftest import ROOT
from tests.edge.slots.program import SETTLED
from tests.edge.slots.strike import Fault, put
from wire.envelope import detached
from wire.files import digest, file_digest
from wire.keys import PrivateKey, new_key, write_key
from wire.messages import Program
from wire.packed import LAST, STREAM, Packed, Part, pack, to_bytes

OLD, NEW = "0.1.0+aaaaaaaa", "0.2.0+bbbbbbbb"
CODE = "import sys\nsys.path.insert(0, {root!r})\nfrom tests.edge.slots.program import main\n"
WATCHDOG_S, MOST_STARTS, PATIENCE_S = 1.5, 30, 120.0


def files_of(name: str, manner: str = "good") -> dict[str, bytes]:
    """All files of a release; release.json is the last."""
    code = f"{CODE.format(root=str(ROOT))}sys.exit(main(sys.argv[1:], {manner!r}))\n"
    weight = bytes(range(256)) * 2000 + name.encode()
    return {
        "lib/edgequilt.py": code.encode(),
        "lib/rooms/weight.bin": weight,
        LAST: b'{"version": "%s"}' % name.encode(),
    }


@dataclass
class Board:
    """Its home, and beside it the hub's shop and book, and a fault."""

    root: Path
    key: PrivateKey = field(default_factory=lambda: new_key("publisher", "publisher"))

    def __post_init__(self) -> None:
        for path, data in files_of(OLD).items():
            target = self.home / "releases" / OLD / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (self.home / "state").mkdir()
        (self.home / "agent.toml").write_text("")
        write_key(self.key, self.home / "made")
        (self.home / "made" / "publisher.pub").rename(self.home / "publisher.pub")
        launch.switch(self.home, OLD)

    @property
    def home(self) -> Path:
        """What is compared."""
        return self.root / "home"

    def offer(self, name: str = NEW, manner: str = "good", sequence: int = 1, **changes: object) -> Packed:
        """Have the hub serve a release and name it."""
        files = files_of(name, manner)
        shop = self.root / "shop"
        (shop / "blobs").mkdir(parents=True, exist_ok=True)
        size, found = pack([_opened(data) for data in files.values()], shop / STREAM)
        (shop / STREAM).rename(shop / "blobs" / found)
        parts = tuple(Part(path, len(data), digest(data)) for path, data in files.items())
        told = {"stream_bytes": size, "stream_sha256": found, "files": parts, **changes}
        python, glibc, architecture = own_system()
        about = {"version": name, "python": python, "glibc": glibc, "architecture": architecture, **told}
        packed = Packed(**about)  # type: ignore[arg-type]  # as a publisher makes it, right or wrong
        body = to_bytes(packed)
        place = shop / "programs" / digest(body)
        place.mkdir(parents=True)
        (place / "manifest.json").write_bytes(body)
        (place / "manifest.sig").write_bytes(detached(self.key, body))
        assert self.record.follow(Program("barn-1", sequence, digest(body)))
        return packed

    @property
    def record(self) -> Record:
        """As it is now."""
        return Record(self.home / "state")

    def strike(self, fault: Fault) -> None:
        """Have something go wrong."""
        put(self.root / "fault.json", fault)

    def tree(self) -> dict[str, str]:
        """What is below home, but what is known of orders: content by path."""
        found = {}
        for path in sorted(self.home.rglob("*")):
            name = path.relative_to(self.home).as_posix()
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file() and name != "state/program.json" and "__pycache__" not in name:
                found[name] = file_digest(path)
        return found

    def told(self) -> str:
        """What the hub heard."""
        book = self.root / "told"
        return book.read_text() if book.exists() else ""

    def live(self) -> int:
        """Start the agent as systemd does, again and again, until it has nothing to do; how often."""
        environment = {"EDGEQUILT_HOME": str(self.home), "PATH": os.environ["PATH"]}
        return live([sys.executable, launch.__file__, "agent", "run"], environment, self.root)


def live(command: list[str], environment: dict[str, str], folder: Path) -> int:
    """Start a service as systemd does, again and again, until it ends with SETTLED; how often.

    Args:
        command: of the service.
        environment: of it; where to tell systemd something, and within which time, is added.
        folder: for the socket of that.
    """
    address, ends = str(folder / "notify"), time.monotonic() + PATIENCE_S
    Path(address).unlink(missing_ok=True)
    told = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(address)
        line.settimeout(0.05)
        for start in range(1, MOST_STARTS):
            assert time.monotonic() < ends
            if _lived(command, {**environment, **told}, line) == SETTLED:
                return start
    raise AssertionError(f"no end after {MOST_STARTS} starts")


def _lived(command: list[str], environment: dict[str, str], line: socket.socket) -> int:
    """One life of the service: its exit code; killed when its watchdog is not fed."""
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        fed, limit_s = float("inf"), WATCHDOG_S  # systemd waits for the start apart
        try:
            while process.poll() is None and time.monotonic() - fed < 2 * limit_s:
                heard = _heard(line)
                if b"WATCHDOG=1" in heard:
                    fed = time.monotonic()
                if b"WATCHDOG_USEC=" in heard:
                    limit_s = int(heard.partition(b"WATCHDOG_USEC=")[2].split()[0]) / 1e6
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _heard(line: socket.socket) -> bytes:
    try:
        return line.recv(4096)
    except TimeoutError:
        return b""


def _opened(data: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(data)
