"""What a board says of itself, before anything is sent: asked in plain shell, since its Python may be any."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCRIPT = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say uid "$(id -u)"
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
p="$(command -v /usr/bin/python3 || command -v python3)"
say python "$p"
[ -n "$p" ] && say version "$("$p" -c 'import platform; print(platform.python_version())' 2>/dev/null)"
if [ -d "${1:-/}run/systemd/system" ]; then
  say systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
fi
if command -v sudo >/dev/null; then sudo -n true 2>/dev/null && say sudo free || say sudo asks; fi
d="${1:-/}var/lib"; while [ ! -d "$d" ]; do d="$(dirname "$d")"; done
say free_kib "$(df -Pk "$d" | awk 'NR==2 {print $4}')"
say memory_kib "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)"
say clock "$(date +%s)"
[ -r /proc/device-tree/model ] && say model "$(tr -d '\000' </proc/device-tree/model)"
[ -r /etc/nv_tegra_release ] && say tegra "$(head -n 1 /etc/nv_tegra_release)"
say controllers "$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null)"
say system "$(. /etc/os-release 2>/dev/null; printf '%s' "$PRETTY_NAME")"
exit 0
"""


@dataclass(frozen=True)
class Look:
    """A board before anything is sent to it.

    Attributes:
        uid: of who logged in.
        machine: as `uname -m` says; bits: of its programs (a 64-bit kernel may run 32-bit ones).
        glibc: its version, empty where the C library is another.
        python, version: the interpreter, empty where there is none.
        systemd: its version, 0 where it does not run.
        sudo: `free`: asks for nothing, `asks`: for a password, `none`: is not there.
        free_bytes: on the disk of /var/lib.
        memory_bytes: of the board.
        clock_s: seconds since 1970.
        model: what the board calls itself.
        tegra: NVIDIA's release, of a Jetson.
        limits_memory: whether its kernel limits the memory of services.
        system: its name.
    """

    uid: int
    machine: str
    bits: int
    glibc: str
    python: str
    version: str
    systemd: int
    sudo: str
    free_bytes: int
    memory_bytes: int
    clock_s: int
    model: str
    tegra: str
    limits_memory: bool
    system: str


def read_look(text: str) -> Look:
    """A board's answer to SCRIPT; what it did not say is empty or 0."""
    told = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def number(name: str) -> int:
        return int(told[name]) if re.fullmatch(r"\d+", told.get(name, "")) else 0

    libc = re.fullmatch(r"glibc (\d+\.\d+)\S*", told.get("libc", ""))
    return Look(
        uid=number("uid") if told.get("uid") else -1,
        machine=told.get("machine", ""),
        bits=number("bits"),
        glibc=libc[1] if libc else "",
        python=told.get("python", ""),
        version=told.get("version", ""),
        systemd=number("systemd"),
        sudo=told.get("sudo", "none"),
        free_bytes=number("free_kib") << 10,
        memory_bytes=number("memory_kib") << 10,
        clock_s=number("clock"),
        model=told.get("model", ""),
        tegra=told.get("tegra", ""),
        limits_memory="memory" in told.get("controllers", "").split(),
        system=told.get("system", ""),
    )
