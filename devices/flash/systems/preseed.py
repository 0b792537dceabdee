"""Wishes as the package rpi-preseed reads them: one TOML file on the FAT partition, which it redacts at its end."""

from __future__ import annotations

from typing import Any

from console.toml_text import toml_text
from devices.flash.changes import Changes, Tree
from devices.flash.systems.accounts import groups
from devices.flash.systems.cloud_init import kernel_line
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload, Placed

NAME = "rpi-preseed.toml"
SECRETS = (NAME,)
VERSION = "1.1"  # of its format


def boot_changes(boot: Tree, wishes: Wishes, mark: str, where: str) -> Changes:
    """The file; nothing where nothing is wished."""
    tables, files = preseed(wishes), list[Placed]()
    if wishes.wifi_country and not wishes.wifi_ssid:  # it looks at the country of a network only
        line = (boot.read("/cmdline.txt") or b"").decode(errors="replace")
        words = [f"cfg80211.ieee80211_regdom={wishes.wifi_country}"]
        files.append(Placed("/cmdline.txt", kernel_line(line, words).encode()))
    if tables:
        text = toml_text(tables, f'config_version = "{VERSION}"\n')
        files.append(Placed(f"/{NAME}", text.encode()))
    return Changes(Payload(tuple(files)))


def preseed(wishes: Wishes) -> dict[str, Any]:
    """Its tables."""
    found: dict[str, Any] = {}
    if wishes.hostname:
        found["system"] = {"hostname": wishes.hostname}
    if wishes.ssh_keys:
        found["user"] = {"name": wishes.user, "passwordless_sudo": False, "groups": list(groups(wishes))}
        keys = list(wishes.ssh_keys)
        found["ssh"] = {"enabled": True, "password_authentication": False, "authorized_keys": keys}
    if wishes.wifi_ssid:
        wlan: dict[str, Any] = {"ssid": wishes.wifi_ssid}
        wlan |= {"password": wishes.wifi_key, "password_encrypted": True} if wishes.wifi_key else {"key_mgmt": "none"}
        found["wlan"] = wlan | ({"country": wishes.wifi_country} if wishes.wifi_country else {})
    if wishes.timezone:
        found["locale"] = {"timezone": wishes.timezone}
    return found
