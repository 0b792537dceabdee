"""Wishes as a script that runs once, in images of Raspberry Pi OS up to Debian 12: `firstrun.sh`.

The kernel's line names it. It calls the image's own helpers, then takes itself and its words out of the way.
"""

from __future__ import annotations

import shlex

from devices.flash.changes import Changes, Tree
from devices.flash.systems.cloud_init import kernel_line
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload, Placed

NAME = "firstrun.sh"
SECRETS = (NAME,)  # it removes itself; where it was cut off before that, the unit of the first start does
CUSTOM = "/usr/lib/raspberrypi-sys-mods/imager_custom"


def boot_changes(boot: Tree, wishes: Wishes, mark: str, where: str) -> Changes:
    """The script and the line that starts it; nothing where nothing is wished."""
    steps = _steps(wishes)
    if not steps:
        return Changes()
    line = (boot.read("/cmdline.txt") or b"").decode(errors="replace")
    words = [
        f"systemd.run={where}/{NAME}",
        "systemd.run_success_action=reboot",
        "systemd.unit=kernel-command-line.target",
    ]
    words += [f"cfg80211.ieee80211_regdom={wishes.wifi_country}"] if wishes.wifi_country else []
    files = (
        Placed(f"/{NAME}", script(steps, where).encode(), 0o755),
        Placed("/cmdline.txt", kernel_line(line, words).encode()),
    )
    return Changes(Payload(files), said=("the board starts twice the first time",))


def script(steps: list[str], where: str) -> str:
    """What runs once; a step that fails does not keep the others from running.

    All of it is one function, which bash reads as a whole: the script overwrites itself while it runs.
    """
    own = f"{where}/{NAME}"
    # first the kernel's line, then the script: whatever is cut off in between runs it again, or never
    last = [
        f"sed -i 's| systemd\\.[^ ]*||g' {where}/cmdline.txt",
        "sync",
        f"dd if=/dev/zero of={own} bs=1 count=$(wc -c < {own}) conv=notrunc 2>/dev/null",
        f"rm -f {own}",
        "sync",
        "exit 0",
    ]
    return (
        "\n".join(["#!/bin/bash", "set +e", "main() {", *(f"  {line}" for line in (*steps, *last)), "}", "main"]) + "\n"
    )


def _steps(wishes: Wishes) -> list[str]:
    quoted = shlex.quote
    found = [f"{CUSTOM} set_hostname {quoted(wishes.hostname)}"] if wishes.hostname else []
    if wishes.ssh_keys:
        # an account whose password fits nothing; the key does
        found.append(f"/usr/lib/userconf-pi/userconf {quoted(wishes.user)} '*'")
        found.append(f"{CUSTOM} enable_ssh -k {' '.join(map(quoted, wishes.ssh_keys))}")
    if wishes.wifi_ssid:
        kind = "" if wishes.wifi_key else "-p "
        # the helper writes the name into a profile of NetworkManager as it is, where only octets mean any name
        parts = (wishes.ssid_octets, wishes.wifi_key, wishes.wifi_country)
        found.append(f"{CUSTOM} set_wlan {kind}{' '.join(map(quoted, parts))}")
    if wishes.timezone:
        found.append(f"{CUSTOM} set_timezone {quoted(wishes.timezone)}")
    return found
