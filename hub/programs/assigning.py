"""Which release of the agent a device is to be: named by version, chosen for the system that the device told."""

from __future__ import annotations

from collections.abc import Iterable

from console.errors import HubError
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import put_order


def order(home: Home, devices: Iterable[str], text: str, now_s: float) -> dict[str, str]:
    """Give devices a release; a higher sequence each time, so that a device that gave up on it tries again.

    Args:
        home: the hub's.
        devices: their names.
        text: a version, its beginning up to the `+`, or the beginning of a digest.
        now_s: the time.

    Returns:
        The version by device.

    Raises:
        HubError: a device cannot be replaced, or there is no release, or several, for it; nobody gets one then.
    """
    rows = {name: home.ledger.device(name) for name in devices}
    chosen = {name: named(home, text, name, (row or {}).get("hello") or {}) for name, row in rows.items()}
    with home.ledger.transaction() as tx:
        for name, found in chosen.items():
            put_order(tx, name, found["sha256"], now_s)
    return {name: found["version"] for name, found in chosen.items()}


def named(home: Home, text: str, device: str, hello: Row) -> Row:
    """The release that is meant for a device.

    Raises:
        HubError: the device cannot be replaced, or there is none, or several.
    """
    if hello and not hello.get("program"):
        raise HubError(
            f"expected a device whose agent was started from a release, found {device}, which was not; install it with "
            f"`edgequilt install` or flash it"
        )
    rows = home.ledger.programs()
    meant = [row for row in rows if text == row["version"] or text == row["version"].partition("+")[0]]
    meant = meant or [row for row in rows if len(text) >= 4 and row["sha256"].startswith(text)]
    system = hello.get("system") or ""
    found = [row for row in meant if not system or _fits(row["system"], system)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{row['version']} ({row['system']})" for row in rows) or "none"
    for_it = f" for {device} ({system})" if system else f" for {device}"
    raise HubError(f"expected one release {text}{for_it}, found {len(found)}; name one of: {known}")


def _fits(release: str, board: str) -> bool:
    """Whether a release for one system runs on another: an older glibc will do.

    >>> _fits("Python 3.11, glibc 2.28, aarch64", "Python 3.11, glibc 2.36, aarch64")
    True
    >>> _fits("Python 3.12, glibc 2.28, aarch64", "Python 3.11, glibc 2.36, aarch64")
    False
    """
    (python, libc, machine), (own_python, own_libc, own_machine) = release.split(", "), board.split(", ")
    return (python, machine) == (own_python, own_machine) and _minor(libc) <= _minor(own_libc)


def _minor(libc: str) -> int:
    last = libc.rpartition(".")[2]
    return int(last) if last.isdecimal() else -1
