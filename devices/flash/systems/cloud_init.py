"""Wishes as cloud-init reads them from a FAT partition (NoCloud): user-data, network-config, meta-data.

Every value is JSON, which is YAML. `user` (not `users`) extends the image's own account; `sudo: null` takes away the
image's rule for it, since ours is a file of the root; network-config replaces the image's, so the cable is always
named, and nothing is waited for at boot.
"""

from __future__ import annotations

import json
from typing import Any

from devices.flash.changes import Changes, Tree
from devices.flash.systems.accounts import groups
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload, Placed

SECRETS = ("network-config",)  # the others hold a public key and a name


def boot_changes(boot: Tree, wishes: Wishes, mark: str, where: str) -> Changes:
    """The files of a FAT partition, and the line of the kernel that names this card's own setup."""
    files = [Placed("/user-data", _document(user_data(wishes), "#cloud-config\n")), Placed("/meta-data", meta(mark))]
    files += [Placed("/network-config", _document(network(wishes)))] if wishes.wifi_ssid else []
    line = (boot.read("/cmdline.txt") or b"").decode(errors="replace")
    files.append(Placed("/cmdline.txt", kernel_line(line, _words(wishes, mark)).encode()))
    return Changes(Payload(tuple(files)))


def user_data(wishes: Wishes) -> dict[str, Any]:
    """What cloud-init does once for this `instance-id`."""
    found: dict[str, Any] = {}
    if wishes.hostname:
        found |= {"hostname": wishes.hostname, "manage_etc_hosts": True}
    if wishes.timezone:
        found["timezone"] = wishes.timezone
    if wishes.ssh_keys:
        found["user"] = {
            "name": wishes.user,
            "sudo": None,
            "lock_passwd": True,
            "groups": ",".join(groups(wishes)),
            "ssh_authorized_keys": list(wishes.ssh_keys),
        }
        found |= {"ssh_pwauth": False, "runcmd": [["systemctl", "enable", "--now", "ssh"]]}
    return found


def network(wishes: Wishes) -> dict[str, Any]:
    """Netplan's version 2: the cable and the Wi-Fi."""
    open_one: dict[str, Any] = {"auth": {"key-management": "none"}}
    network_of = {"password": wishes.wifi_key} if wishes.wifi_key else open_one
    wifi: dict[str, Any] = {"dhcp4": True, "optional": True, "access-points": {wishes.wifi_ssid: network_of}}
    if wishes.wifi_country:
        wifi["regulatory-domain"] = wishes.wifi_country
    return {"version": 2, "ethernets": {"eth0": {"dhcp4": True, "optional": True}}, "wifis": {"wlan0": wifi}}


def meta(mark: str) -> bytes:
    """Whose setup it is: the same card, written again, is another instance."""
    return f"dsmode: local\ninstance-id: edgequilt-{mark}\n".encode()


def kernel_line(line: str, words: list[str]) -> str:
    """The line of the kernel with more words, those of earlier cards taken away; it stays one line."""
    prefixes = tuple(word.partition("=")[0] + "=" for word in words)
    kept = [word for word in line.split() if not word.startswith(prefixes)]
    return " ".join([*kept, *words]) + "\n"


def _words(wishes: Wishes, mark: str) -> list[str]:
    country = [f"cfg80211.ieee80211_regdom={wishes.wifi_country}"] if wishes.wifi_country else []
    return [f"ds=nocloud;i=edgequilt-{mark}", *country]


def _document(content: dict[str, Any], head: str = "") -> bytes:
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in content.items())
    return (head + "".join(lines)).encode()
