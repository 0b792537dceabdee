"""Raspberry Pi OS: three ways in which an image takes wishes, told apart by what it contains, never by the board.

cloud-init since the images of Debian 13, `firstrun.sh` before, `rpi-preseed.toml` where that package is. The agent
itself is placed into the root file system in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from devices.flash.changes import Changes, Seen, Tree
from devices.flash.systems import cloud_init, debian, firstrun, preseed
from devices.flash.systems.accounts import require_account, sudo_payload
from devices.flash.systems.basics import time_payload, watchdog_payload
from devices.flash.systems.first import first_payload
from devices.flash.systems.release import os_release
from devices.flash.systems.wireless import wifi_payload
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload

LOOKED_FOR = "/etc/rpi-issue, or config.txt and cmdline.txt on a FAT partition"
IMAGER = "/usr/lib/raspberrypi-sys-mods/imager_custom"
FIRST_SUDO = "/etc/sudoers.d/010_pi-nopasswd"  # of the image's first account, which becomes the user's
Format = Callable[[Tree, Wishes, str, str], Changes]


def title(seen: Seen) -> str | None:
    """What such an image calls itself."""
    issue = seen.root.read("/etc/rpi-issue")
    if issue is not None:
        return issue.decode(errors="replace").partition("\n")[0].strip() or "Raspberry Pi OS"
    boot = () if seen.boot is None else {name.lower() for name in seen.boot.names("/")}
    # without the first file it is another system for that board: Ubuntu's image has the same FAT, and cloud-init
    named = os_release(seen.root).get("PRETTY_NAME", "Raspberry Pi OS")
    return named if {"config.txt", "cmdline.txt"} <= set(boot) else None


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

    Raises:
        BadData: the user cannot be made there.
    """
    kind, where = format_of(seen), mounted_at(seen)
    if not kind or seen.boot is None:
        # an image of that board that understands none of the three
        return debian.changes(seen, wishes, mark)
    require_account(seen.root, wishes, renamed=kind != "cloud-init")
    told, wifi, lacks = _told(seen, wishes, kind)
    root = time_payload(Wishes()) + watchdog_payload(wishes) + wifi + _sudo(wishes)
    make, secrets, after = FORMATS[kind]
    made = make(seen.boot, told, mark, where)
    written = tuple(name for name in secrets if any(placed.path.strip("/") == name for placed in made.boot.files))
    said = (f"it takes wishes as {kind}", *made.said, *((lacks,) if lacks else ()))
    # such images grow their root themselves
    return Changes(made.boot, root + first_payload(grow=False, boot=where, secrets=written, after=after), said)


def _told(seen: Seen, wishes: Wishes, kind: str) -> tuple[Wishes, Payload, str]:
    """What is wished in FAT, what is written into the root instead, and what to say.

    Names of networks that are no plain text go straight to NetworkManager: netplan and rpi-preseed hand texts on, which
    it then reads in its own way. `firstrun.sh` gives octets.
    """
    if wishes.ssid_is_plain or kind == "firstrun":
        return wishes, Payload(), ""
    return replace(wishes, wifi_ssid="", wifi_password=""), *wifi_payload(seen.root, wishes)


def _sudo(wishes: Wishes) -> Payload:
    """One rule, whichever the format; without it the image's own, which follows its first account, goes, too."""
    if wishes.ssh_keys and not wishes.sudo:
        return Payload(removed=(FIRST_SUDO,))
    return sudo_payload(wishes)


def mounted_at(seen: Seen) -> str:
    """Where the system mounts its FAT partition."""
    fstab = (seen.root.read("/etc/fstab") or b"").decode(errors="replace")
    found = re.search(r"^\S+\s+(/boot\S*)\s+vfat\s", fstab, re.MULTILINE)
    return found[1] if found else "/boot/firmware"
