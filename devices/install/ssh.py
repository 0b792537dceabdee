"""One door to asyncssh: a connection to a board whose key is known, programs run there, bytes sent to them."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncssh
from asyncssh.known_hosts import SSHKnownHosts

from console.errors import StorageError, TransportError, UsageError

CONNECT_S = 20
ALIVE_S, MISSED = 15, 4  # a board that went away is noticed within a minute
PORT = 22


@dataclass(frozen=True)
class Host:
    """Where to log in.

    Attributes:
        name: as a person wrote it, `USER@HOST`.
        user, host, port: its parts.
        identity: a private key; None: those of ~/.ssh and of ssh-agent.
        known_hosts: whom to believe; None: ~/.ssh/known_hosts.
        accept_new: write the key of a host that is not known there, and believe it from now on.
        password: of the user, where the board takes one.
    """

    name: str
    user: str
    host: str
    port: int = PORT
    identity: Path | None = None
    known_hosts: Path | None = None
    accept_new: bool = False
    password: str | None = None

    def __repr__(self) -> str:
        return f"Host({self.name})"

    @property
    def known(self) -> Path:
        """The file of keys that are believed."""
        return self.known_hosts or Path.home() / ".ssh" / "known_hosts"


class Shell:
    """Programs on a board."""

    def __init__(self, connection: asyncssh.SSHClientConnection, host: Host) -> None:
        self.connection, self.host = connection, host

    async def run(self, arguments: list[str], stdin: Iterable[bytes] = ()) -> tuple[int, bytes, bytes]:
        """Run a program there.

        Args:
            arguments: the program and what it is told.
            stdin: what it reads, made while it is sent.

        Returns:
            Its exit status, output and errors.

        Raises:
            TransportError: the connection is gone.
        """
        try:
            async with self.connection.create_process(shlex.join(arguments), encoding=None) as process:
                feeding = asyncio.ensure_future(_feed(process, stdin))
                output, errors = await asyncio.gather(process.stdout.read(), process.stderr.read())
                await process.wait()
                await feeding
                status = process.returncode
        except (OSError, asyncssh.Error) as error:
            raise TransportError(f"expected {self.host.name} to stay, lost it ({error}); say it again") from error
        if status is None or status < 0:
            raise TransportError(f"expected {self.host.name} to stay, lost it; say the same command again")
        return status, output, errors


async def _feed(process: asyncssh.SSHClientProcess[bytes], stdin: Iterable[bytes]) -> None:
    try:
        for block in stdin:
            process.stdin.write(block)
            await process.stdin.drain()
        process.stdin.write_eof()
    except (BrokenPipeError, ConnectionError):
        pass  # a program that does not read to the end says why


@asynccontextmanager
async def connected(host: Host) -> AsyncIterator[Shell]:
    """Log in.

    Raises:
        TransportError: the board is not reached, is not who it was, or does not let us in.
        UsageError: a key or its file is not what it should be.
    """
    known = await _believed(host)
    try:
        connection = await asyncssh.connect(
            host.host,
            host.port,
            username=host.user,
            known_hosts=known,
            client_keys=[str(host.identity)] if host.identity is not None else (),
            password=host.password,
            connect_timeout=CONNECT_S,
            keepalive_interval=ALIVE_S,
            keepalive_count_max=MISSED,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise TransportError(
            f"expected {host.host} to have the key that {host.known} holds, found another: the board was set up anew, "
            f"or it is not the board; if it was: ssh-keygen -R {_entry(host)} -f {host.known}"
        ) from error
    except asyncssh.PermissionDenied as error:
        raise TransportError(
            f"expected {host.host} to let {host.user} in, it does not ({error.reason}); give --identity, load the key "
            f"into ssh-agent, or give --password-file"
        ) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise UsageError(f"expected a private key that can be read at {host.identity}, found none ({error})") from error
    except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
        raise _unreached(host, error) from error
    async with connection:
        yield Shell(connection, host)


async def _believed(host: Host) -> SSHKnownHosts:
    """The keys that are believed, with this host's among them."""
    known = _read_known(host)
    if any(known.match(host.host, "", host.port)):
        return known
    if not host.accept_new:
        raise TransportError(
            f"expected the key of {host.host} in {host.known}, found none; log in once with ssh and compare it, or "
            f"give --accept-new-host-key to believe what answers there now"
        )
    try:
        key = await asyncio.wait_for(asyncssh.get_server_host_key(host.host, host.port), CONNECT_S)
    except (OSError, asyncssh.Error, asyncio.TimeoutError) as error:
        raise _unreached(host, error) from error
    if key is None:
        raise TransportError(f"expected a host key from {host.host}, it gives none; log in once with ssh")
    line = f"{_entry(host)} {key.export_public_key().decode().strip()}\n"
    try:
        host.known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with host.known.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise StorageError(f"expected to write {host.known}, cannot ({error.strerror}); give --known-hosts") from error
    return _read_known(host)


def _read_known(host: Host) -> SSHKnownHosts:
    try:
        return asyncssh.import_known_hosts(host.known.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return asyncssh.import_known_hosts("")
    except (OSError, ValueError) as error:
        raise UsageError(f"expected known hosts as OpenSSH writes them in {host.known}, found {error}") from error


def _entry(host: Host) -> str:
    return host.host if host.port == PORT else f"[{host.host}]:{host.port}"


def _unreached(host: Host, error: BaseException) -> TransportError:
    why = str(error) or type(error).__name__
    return TransportError(f"expected SSH at {host.host} port {host.port}, found none ({why}); check address and power")


def host_named(name: str) -> tuple[str, str]:
    """User and host of `USER@HOST`; without a user: the one of this machine.

    Raises:
        UsageError: it is neither.

    >>> host_named("pi@barn-1.local")
    ('pi', 'barn-1.local')
    """
    user, _, host = name.rpartition("@")
    if not host or any(c.isspace() for c in name) or host.startswith("-"):
        raise UsageError(f"expected USER@HOST, found {name!r}")
    return user or os.environ.get("USER") or getpass.getuser(), host.strip("[]")
