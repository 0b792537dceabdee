"""A board for tests: OpenSSH's sshd on loopback, as whoever runs the tests, with a folder that stands for its root.

What is real: SSH, keys, the shell, Python, every file operation. What is not: `systemctl`, a script that writes down
what it was asked and says what a systemd would say; and `sudo`, a script that wants a password.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devices.install.ssh import Host
from devices.install.wishes import Wishes
from tests.programs import sshd

SYSTEMCTL = """#!/bin/sh
here={here}
[ "$1" = --version ] && echo "systemd 252 (252.38)" && exit 0
echo "$*" >>$here/asked
case "$1" in
  restart) cat $here/becomes >$here/active ;;
  enable) echo enabled >$here/enabled ;;
  disable) echo inactive >$here/active; echo disabled >$here/enabled ;;
  show)
    printf 'ActiveState=%s\\nNRestarts=0\\nStatusText=waits for its hub\\n' "$(cat $here/active)"
    echo "UnitFileState=$(cat $here/enabled)" ;;
esac
exit 0
"""
JOURNALCTL = "#!/bin/sh\necho 'the launcher says: no release'\n"
SUDO = """#!/bin/sh
# asks for a password on standard input, as sudo -S does
here={here}
echo "$*" >>$here/sudo
[ "$1" = -n ] && exit 1
IFS= read -r given
[ "$given" = "right horse" ] || {{ echo "sudo: 1 incorrect password attempt" >&2; exit 1; }}
while [ "$1" != -p ]; do shift; done; shift 2
exec "$@"
"""


@dataclass(frozen=True)
class Board:
    """A board that answers on loopback, and where its things are."""

    folder: Path
    port: int

    @property
    def root(self) -> Path:
        """The folder that stands for its root."""
        return self.folder / "root"

    def host(self, **other: object) -> Host:
        """How to log in."""
        told = {"identity": self.folder / "user", "known_hosts": self.folder / "known_hosts", **other}
        return Host("barn@board", getpass.getuser(), "127.0.0.1", self.port, **told)  # type: ignore[arg-type]

    def wishes(self, wheelhouse: Path, **other: object) -> Wishes:
        """Of a person who has these wheels."""
        told = {"prefix": str(self.root), "wheelhouse": wheelhouse, "cache": wheelhouse.with_name("cache"), **other}
        return Wishes(**told, quiet=True, steady_s=0.1)  # type: ignore[arg-type]

    def asked(self) -> list[str]:
        """What systemctl was asked to change."""
        path = self.folder / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] != "show"]

    def forget(self) -> None:
        """Nothing was asked."""
        (self.folder / "asked").unlink(missing_ok=True)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file below its root, with its inode: a file that was written again has another."""
        return {
            path.relative_to(self.root).as_posix(): (path.stat().st_ino, path.read_bytes())
            for path in self.root.rglob("*")
            if path.is_file()
        }


@contextmanager
def board(folder: Path) -> Iterator[Board]:
    """A board that runs sshd until the end."""
    program = sshd()
    for name in ("host", "user", "other"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL), ("sudo", SUDO)):
        (programs / name).write_text(text.format(here=folder) if "{here}" in text else text)
        (programs / name).chmod(0o755)
    (folder / "active").write_text("inactive\n")
    (folder / "enabled").write_text("disabled\n")
    (folder / "becomes").write_text("active\n")
    (folder / "root/run/systemd/system").mkdir(parents=True)
    (folder / "root/var/lib").mkdir(parents=True)
    port = free_port()
    public = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv PATH={programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it drops privileges; a package's start makes it
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL)
        try:
            await_port(port, process, folder / "sshd.log")
            yield Board(folder, port)
        finally:
            process.terminate()
            process.wait(10)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
