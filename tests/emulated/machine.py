"""A whole arm64 machine under qemu: a disk, a network of its own in which the host is 10.0.2.2, a serial line.

The cores are Cortex-A72, those of a Pi 4; never `max`, whose integers qemu 7.2 computes wrongly.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.emulated.debian import Debian
from tests.programs import qemu_system, ssh_client

HOST = "10.0.2.2"  # where the machine finds this one
PATIENCE_S = 600.0  # an emulated board beside other tests on two cores
SSH = (
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
)
KERNEL = "root=/dev/vda2 console=ttyAMA0 quiet systemd.journald.forward_to_console=1 systemd.show_status=0 panic=-1"


@dataclass
class Machine:
    """A board that boots from a card; `start` is switching it on, `cut` is pulling its plug.

    Attributes:
        debian: whose kernel it boots.
        card: an image, written to.
        folder: takes the serial log.
        memory_mib: of the board.
        networked: whether it reaches this machine.
        clock: what its clock says at power-on, such as `1970-01-01T00:00:10`; None: the right time.
        safe: whether what the card was told to keep is kept when the plug is pulled; slower.
        key: the private half of a key that its SSH server takes.
        user: who logs in.
    """

    debian: Debian
    card: Path
    folder: Path
    memory_mib: int = 512
    networked: bool = True
    clock: str | None = None
    safe: bool = False
    key: Path | None = None
    user: str = "root"
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    port: int = 0  # of this machine, which leads to its SSH server

    def __post_init__(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", self.port))
            self.port = int(found.getsockname()[1])

    def start(self) -> Machine:
        """Switch it on."""
        assert self.process is None
        self.starts += 1
        self.process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def cut(self) -> None:
        """Switch it off as a power cut does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def __enter__(self) -> Machine:  # noqa: PYI034  # Self is of Python 3.11
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.cut()

    @property
    def serial(self) -> str:
        """What it said on its serial line since it was switched on."""
        path = self._log()
        return path.read_text(errors="replace") if path.exists() else ""

    def until(self, true: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for something while it runs."""
        ends = time.monotonic() + patience_s
        while not true():
            said = "\n".join(self.serial.splitlines()[-40:])
            assert self.process is not None
            assert self.process.poll() is None, f"the machine went off: {said}"
            assert time.monotonic() < ends, f"expected {what} within {patience_s:.0f} s; the serial line said: {said}"
            time.sleep(0.2)

    def says(self, text: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for a text on the serial line."""
        self.until(lambda: text in self.serial, f"{text!r} on the serial line", patience_s)

    def heard(self) -> str:
        """What it said in all its starts."""
        logs = sorted(self.folder.glob("serial-*.log"), key=lambda path: path.stat().st_mtime)
        return "".join(path.read_text(errors="replace") for path in logs)

    def run(self, command: str, text: str | None = None, patience_s: float = PATIENCE_S) -> str:
        """A command on the board, over SSH, as soon as that answers; what it prints. It must succeed."""
        done = self.tried(command, text)
        ends = time.monotonic() + patience_s
        while done.returncode == 255 and time.monotonic() < ends:  # ssh's own: nobody answers yet
            time.sleep(1)
            done = self.tried(command, text)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def tried(self, command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same, once."""
        assert self.key is not None
        told = [ssh_client(), *SSH, "-o", "ConnectTimeout=20", "-i", str(self.key), "-p", str(self.port)]
        told += [f"{self.user}@127.0.0.1", command]
        return subprocess.run(told, input=text or "", capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    def _log(self) -> Path:
        return self.folder / f"serial-{self.starts}.log"

    def _command(self) -> list[str]:
        cache = "writeback" if self.safe else "unsafe"
        network = f"user,id=net,restrict={'off' if self.networked else 'on'}"
        network += f",hostfwd=tcp:127.0.0.1:{self.port}-:22"
        return [
            *("setpriv", "--pdeathsig", "KILL", "--", qemu_system()),
            *("-M", "virt", "-cpu", "cortex-a72", "-smp", str(min(2, os.cpu_count() or 1)), "-m", str(self.memory_mib)),
            *("-nodefaults", "-display", "none", "-serial", f"file:{self._log()}"),
            *("-kernel", str(self.debian.kernel), "-initrd", str(self.debian.initrd), "-append", KERNEL),
            *("-drive", f"file={self.card},format=raw,if=none,id=card,cache={cache}"),
            *(
                "-device",
                "virtio-blk-pci,drive=card",
                "-netdev",
                network,
                "-device",
                "virtio-net-pci,netdev=net,romfile=",
            ),
            *("-device", "virtio-rng-pci", *(("-rtc", f"base={self.clock}") if self.clock else ())),
        ]
