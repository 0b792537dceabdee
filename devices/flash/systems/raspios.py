"""Raspberry Pi OS: three ways in which an image takes wishes, told apart by what it contains, never by the board.

cloud-init since the images of Debian 13, `firstrun.sh` before, `rpi-preseed.toml` where that package is. The agent
itself is placed into the root file system in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from devices.flash.changes import Changes, Seen, Tree
from devices.flash.systems import cloud_init, debian, firstrun, preseed
from devices.flash.systems.basics import time_payload, watchdog_payload
from devices.flash.systems.first import first_payload
from devices.flash.wishes import Wishes

LOOKED_FOR = "/etc/rpi-issue, or config.txt and cmdline.txt on a FAT partition"
IMAGER = "/usr/lib/raspberrypi-sys-mods/imager_custom"
Format = Callable[[Tree, Wishes, str, str], Changes]


def title(seen: Seen) -> str | None:
    """What such an image calls itself."""
    issue = seen.root.read("/etc/rpi-issue")
    if issue is not None:
        return issue.decode(errors="replace").splitlines()[0].strip() or "Raspberry Pi OS"
    boot = () if seen.boot is None else {name.lower() for name in seen.boot.names("/")}
    return "Raspberry Pi OS" if {"config.txt", "cmdline.txt"} <= set(boot) else None


def format_of(seen: Seen) -> str:
    """`cloud-init`, `rpi-preseed`, `firstrun`; empty where the image understands none."""
    boot = set() if seen.boot is None else {name.lower() for name in seen.boot.names("/")}
    if boot & {"user-data", "meta-data"}:
        return "cloud-init"
    if "rpi-preseed" in seen.root.names("/usr/lib"):
        return "rpi-preseed"
    return "firstrun" if seen.root.read(IMAGER) is not None else ""


# cloud-init's last unit is itself after multi-user.target: who is wanted by that target and after this unit alone makes
# a circle, of which systemd leaves one out
AFTER_CLOUD_INIT = "cloud-final.service multi-user.target"
FORMATS: dict[str, tuple[Format, tuple[str, ...], str]] = {
    "cloud-init": (cloud_init.boot_changes, cloud_init.SECRETS, AFTER_CLOUD_INIT),
    "rpi-preseed": (preseed.boot_changes, preseed.SECRETS, "rpi-preseed.service"),
    "firstrun": (firstrun.boot_changes, firstrun.SECRETS, ""),
}


def changes(seen: Seen, wishes: Wishes, mark: str) -> Changes:
    """What goes into both partitions.

    Args:
        seen: the image.
        wishes: of the user.
        mark: differs with every card that is written, so that a card written again is set up again.
    """
    kind, where = format_of(seen), mounted_at(seen)
    root = time_payload(Wishes()) + watchdog_payload()
    if not kind or seen.boot is None:
        # an image of that board that understands none of the three
        return debian.changes(seen, wishes, mark)
    make, secrets, after = FORMATS[kind]
    made = make(seen.boot, wishes, mark, where)
    written = tuple(name for name in secrets if any(placed.path.strip("/") == name for placed in made.boot.files))
    said = (f"it takes wishes as {kind}", *made.said)
    # such images grow their root themselves
    return Changes(made.boot, root + first_payload(grow=False, boot=where, secrets=written, after=after), said)


def mounted_at(seen: Seen) -> str:
    """Where the system mounts its FAT partition."""
    fstab = (seen.root.read("/etc/fstab") or b"").decode(errors="replace")
    found = re.search(r"^\S+\s+(/boot\S*)\s+vfat\s", fstab, re.MULTILINE)
    return found[1] if found else "/boot/firmware"
