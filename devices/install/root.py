"""The board's side spoken to from here: devices/install/board.py sent as text, as root, with bytes and answers."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import StorageError, TransportError
from console.table import shown
from devices.install.look import SCRIPT, Look, read_look
from devices.install.ssh import Shell
from devices.payload.placed import Placed
from wire.json_text import parse_json

BOARD = Path(__file__).with_name("board.py")
_START = "import sys; exec(compile(sys.stdin.buffer.read({size}), 'board.py', 'exec'))"
FAST = 1  # gzip's level: the link is slower than either end, but not by much


@dataclass(frozen=True)
class Root:
    """A board on which we are root, or a folder of one.

    Attributes:
        shell: where programs run.
        sudo: what a command begins with.
        password: sudo reads it first; None: it asks for none.
        python: the interpreter there.
        prefix: `/`, or a folder that stands for it.
    """

    shell: Shell
    sudo: tuple[str, ...]
    password: bytes | None
    python: str
    prefix: str = "/"

    def __repr__(self) -> str:
        return f"Root({self.shell.host.name})"

    async def call(self, verb: str, told: dict[str, Any], data: Iterable[bytes] = ()) -> dict[str, Any]:
        """Have devices/install/board.py do something.

        Raises:
            StorageError: the board says that it cannot; in its words.
            TransportError: the connection is gone.
        """
        script = BOARD.read_bytes()
        command = [*self.sudo, self.python, "-c", _START.format(size=len(script)), verb]
        arguments = [*command, json.dumps({"root": self.prefix, **told})]
        status, output, errors = await self.shell.run(arguments, itertools.chain(self._secret(), [script], data))
        answer = _answer(output)
        if status or "error" in answer:
            why = answer.get("error") or _last(errors) or f"status {status}"
            raise StorageError(f"expected {self.shell.host.name} to take this, but it says: {shown(why)}")
        return answer

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a program there as root; its status, and what it says."""
        status, output, errors = await self.shell.run([*self.sudo, *arguments], self._secret())
        return status, (output + errors).decode(errors="replace")

    def _secret(self) -> list[bytes]:
        return [] if self.password is None else [self.password + b"\n"]


async def look_at(shell: Shell, prefix: str = "/") -> Look:
    """Ask a board what it is.

    Raises:
        TransportError: it does not answer as a board would.
    """
    status, output, errors = await shell.run(["sh", "-c", SCRIPT, "sh", f"{prefix.rstrip('/')}/"])
    look = read_look(output.decode(errors="replace"))
    if status or look.uid < 0:
        why = shown(_last(errors) or output[:80])
        raise TransportError(f"expected a shell at {shell.host.name} that runs programs, found none ({why})")
    return look


def root_of(shell: Shell, look: Look, password: bytes | None, prefix: str = "/") -> Root:
    """How to be root on a board that was looked at and found fit."""
    if prefix != "/" or look.uid == 0:
        return Root(shell, (), None, look.python, prefix)
    if look.sudo == "free":
        return Root(shell, ("sudo", "-n"), None, look.python, prefix)
    # -k: a password that is remembered would leave ours to the program that runs
    return Root(shell, ("sudo", "-k", "-S", "-p", ""), password or b"", look.python, prefix)


def tarred(files: Iterable[Placed], advance: Callable[[int], None] = lambda n: None) -> Iterator[bytes]:
    """Files as one tar stream, gzip, in blocks; paths are without the first slash.

    Args:
        files: what to send.
        advance: is told the bytes of each file when it was read.
    """
    sink = _Sink()
    with (
        gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=FAST, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            data = file.content.read_bytes() if isinstance(file.content, Path) else file.content
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.size, member.mode = len(data), file.mode
            archive.addfile(member, io.BytesIO(data))
            yield from sink.taken()
            advance(len(data))
    yield from sink.taken()


class _Sink:
    """Collects what is written until it is taken."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.blocks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def taken(self) -> list[bytes]:
        found, self.blocks = self.blocks, []
        return found


def _answer(output: bytes) -> dict[str, Any]:
    lines = output.decode(errors="replace").strip().splitlines()
    try:
        found = parse_json(lines[-1].encode()) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _last(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
