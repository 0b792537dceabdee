"""What is the same file in every Linux: name, clock, time zone, the watchdog."""

from __future__ import annotations

import re

from devices.flash.changes import Tree
from devices.flash.wishes import Wishes
from devices.payload.placed import Linked, Payload, Placed

EPOCH = "/usr/lib/clock-epoch"
WATCHDOG = "/etc/systemd/system.conf.d/10-edgequilt-watchdog.conf"


def name_payload(root: Tree, wishes: Wishes) -> Payload:
    """/etc/hostname, and its line in /etc/hosts."""
    if not wishes.hostname:
        return Payload()
    hosts = (root.read("/etc/hosts") or b"127.0.0.1\tlocalhost\n").decode(errors="surrogateescape")
    line, found = f"127.0.1.1\t{wishes.hostname}", re.compile(r"^127\.0\.1\.1\s.*$", re.MULTILINE)
    hosts = found.sub(line, hosts) if found.search(hosts) else f"{hosts.rstrip()}\n{line}\n"
    files = (
        Placed("/etc/hostname", f"{wishes.hostname}\n".encode()),
        Placed("/etc/hosts", hosts.encode(errors="surrogateescape")),
    )
    return Payload(files)


def time_payload(wishes: Wishes) -> Payload:
    """The time zone; and an epoch, which is when this file was written.

    A board without a clock of its own starts at the later of this and of when its systemd was built (systemd(1),
    /usr/lib/clock-epoch), so that certificates of yesterday hold.
    """
    zone = wishes.timezone
    links = (Linked("/etc/localtime", f"/usr/share/zoneinfo/{zone}"),) if zone else ()
    files = (Placed(EPOCH, b""), *((Placed("/etc/timezone", f"{zone}\n".encode()),) if zone else ()))
    return Payload(files, links)


def watchdog_payload(wishes: Wishes) -> Payload:
    """A board that hangs as a whole starts again: systemd feeds the hardware's watchdog (systemd-system.conf(5))."""
    return Payload((Placed(WATCHDOG, f"[Manager]\nRuntimeWatchdogSec={wishes.watchdog_s or 'off'}\n".encode()),))
