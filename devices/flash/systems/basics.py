"""What is the same file in every Linux: name, clock, time zone, Wi-Fi of NetworkManager, the watchdog."""

from __future__ import annotations

import re
import uuid

from devices.flash.changes import Tree
from devices.flash.wishes import Wishes
from devices.payload.placed import Linked, Payload, Placed

EPOCH = "/usr/lib/clock-epoch"
KEYFILE = "/etc/NetworkManager/system-connections/edgequilt-wifi.nmconnection"
WATCHDOG = "/etc/systemd/system.conf.d/10-edgequilt-watchdog.conf"
WATCHDOG_S = 14  # the Raspberry Pi's counts to 15


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


def watchdog_payload() -> Payload:
    """A board that hangs as a whole starts again: systemd feeds the hardware's watchdog."""
    return Payload((Placed(WATCHDOG, f"[Manager]\nRuntimeWatchdogSec={WATCHDOG_S}\n".encode()),))


def wifi_payload(root: Tree, wishes: Wishes) -> tuple[Payload, str]:
    """The network for what the image has to reach it: NetworkManager, else networkd with wpa_supplicant.

    Returns:
        The files, and what to say: empty, or why there are none.
    """
    if not wishes.wifi_ssid:
        return Payload(), ""
    if "system-connections" in root.names("/etc/NetworkManager") or "NetworkManager" in root.names("/usr/sbin"):
        return Payload((Placed(KEYFILE, keyfile(wishes).encode(), 0o600),)), ""
    if "wpa_supplicant" in (*root.names("/usr/sbin"), *root.names("/sbin")):
        return _supplicant(wishes), ""
    return Payload(), "the image has neither NetworkManager nor wpa_supplicant: Wi-Fi was not set up"


def keyfile(wishes: Wishes) -> str:
    """A connection profile (nm-settings-keyfile(5)); the name as bytes, which any name is."""
    octets = "".join(f"{byte};" for byte in wishes.wifi_ssid.encode())
    security = f"\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={wishes.wifi_key}\n" if wishes.wifi_key else ""
    return (
        f"[connection]\nid=edgequilt-wifi\nuuid={uuid.uuid4()}\ntype=wifi\nautoconnect=true\n"
        f"\n[wifi]\nmode=infrastructure\nssid={octets}\n{security}"
        "\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )


def _supplicant(wishes: Wishes) -> Payload:
    key = f"psk={wishes.wifi_key}" if wishes.wifi_key else "key_mgmt=NONE"
    country = f"country={wishes.wifi_country}\n" if wishes.wifi_country else ""
    ssid = wishes.wifi_ssid.encode().hex()
    text = f"ctrl_interface=/run/wpa_supplicant\n{country}network={{\n  ssid={ssid}\n  {key}\n}}\n"
    network = "[Match]\nName=wl*\n[Network]\nDHCP=yes\n[Link]\nRequiredForOnline=no\n"
    wants = "/etc/systemd/system/multi-user.target.wants"
    return Payload(
        (
            Placed("/etc/wpa_supplicant/wpa_supplicant-wlan0.conf", text.encode(), 0o600),
            Placed("/etc/systemd/network/20-edgequilt-wifi.network", network.encode()),
        ),
        (
            Linked(f"{wants}/wpa_supplicant@wlan0.service", "/lib/systemd/system/wpa_supplicant@.service"),
            Linked(f"{wants}/systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service"),
        ),
    )
