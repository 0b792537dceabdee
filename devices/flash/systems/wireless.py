"""Wi-Fi in the files of a root file system, for whatever the image has to reach a network, and to look up names in it.

NetworkManager does both. Where there is wpa_supplicant alone, ifupdown with a client of DHCP does the rest, or else
systemd-networkd; that one leaves names to systemd-resolved, and where this is missing to us.
"""

from __future__ import annotations

import uuid

from devices.flash.changes import Tree
from devices.flash.systems.names import names_payload
from devices.flash.wishes import Wishes
from devices.payload.placed import Linked, Payload, Placed
from devices.payload.places import UNITS

KEYFILE = "/etc/NetworkManager/system-connections/edgequilt-wifi.nmconnection"
SUPPLICANT = "/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
NETWORK = "/etc/systemd/network/20-edgequilt-wifi.network"
INTERFACES = "/etc/network/interfaces"
STANZA = "/etc/network/interfaces.d/edgequilt-wifi"
WANTS = f"{UNITS}/multi-user.target.wants"
LEASES = ("dhclient", "dhcpcd", "udhcpc")  # what ifupdown asks for an address; each writes /etc/resolv.conf


def wifi_payload(root: Tree, wishes: Wishes) -> tuple[Payload, str]:
    """The network for what the image has to reach it.

    Returns:
        The files, and what to say: empty, or why there are none.
    """
    if not wishes.wifi_ssid:
        return Payload(), ""
    programs = {name for folder in ("/usr/sbin", "/sbin", "/usr/bin") for name in root.names(folder)}
    if "NetworkManager" in programs or "system-connections" in root.names("/etc/NetworkManager"):
        return Payload((Placed(KEYFILE, keyfile(wishes).encode(), 0o600),)), ""
    if "wpa_supplicant" not in programs:
        return Payload(), "the image has neither NetworkManager nor wpa_supplicant: Wi-Fi was not set up"
    known = Payload((Placed(SUPPLICANT, supplicant(wishes).encode(), 0o600),))
    if "ifup" in programs and programs & set(LEASES):
        return known + _ifupdown(root), ""
    return known + _networkd() + names_payload(root), ""


def keyfile(wishes: Wishes) -> str:
    """A connection profile (nm-settings-keyfile(5)); the name as bytes, which any name is."""
    security = f"\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={wishes.wifi_key}\n" if wishes.wifi_key else ""
    return (
        f"[connection]\nid=edgequilt-wifi\nuuid={uuid.uuid4()}\ntype=wifi\nautoconnect=true\n"
        f"\n[wifi]\nmode=infrastructure\nssid={wishes.ssid_octets}\n{security}"
        "\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )


def supplicant(wishes: Wishes) -> str:
    """wpa_supplicant.conf(5); a name without quotes is hexadecimal digits."""
    key = f"psk={wishes.wifi_key}" if wishes.wifi_key else "key_mgmt=NONE"
    country = f"country={wishes.wifi_country}\n" if wishes.wifi_country else ""
    return f"ctrl_interface=/run/wpa_supplicant\n{country}network={{\n  ssid={wishes.ssid.hex()}\n  {key}\n}}\n"


def _ifupdown(root: Tree) -> Payload:
    """interfaces(5): wpasupplicant's own scripts start it for `wpa-conf`."""
    files = [Placed(STANZA, f"allow-hotplug wlan0\niface wlan0 inet dhcp\n    wpa-conf {SUPPLICANT}\n".encode())]
    text = (root.read(INTERFACES) or b"auto lo\niface lo inet loopback\n").decode(errors="surrogateescape")
    if not any(
        line.split()[:1] in (["source"], ["source-directory"]) and "interfaces.d" in line for line in text.splitlines()
    ):
        text = f"{text.rstrip()}\nsource {INTERFACES}.d/*\n"
        files.append(Placed(INTERFACES, text.encode(errors="surrogateescape")))
    return Payload(tuple(files))


def _networkd() -> Payload:
    network = "[Match]\nName=wl*\n[Network]\nDHCP=yes\n[Link]\nRequiredForOnline=no\n"
    return Payload(
        (Placed(NETWORK, network.encode()),),
        (
            Linked(f"{WANTS}/wpa_supplicant@wlan0.service", "/lib/systemd/system/wpa_supplicant@.service"),
            Linked(f"{WANTS}/systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service"),
        ),
    )
