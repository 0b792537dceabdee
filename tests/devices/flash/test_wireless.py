"""Wi-Fi on every system: any name of a network arrives at the radio as it is, and names can be looked up then."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from console.errors import UsageError
from devices.flash import asked
from devices.flash.systems.names import SCRIPT
from devices.flash.systems.wireless import INTERFACES, KEYFILE, STANZA, SUPPLICANT
from devices.flash.wishes import Wishes
from tests.devices.flash.roots import CARDS, DEBIAN, ELF, Card, Root, base
from tests.devices.flash.seen import WISHES, After, flashed

NAMES = {
    "plain": b"Hof nebenan",
    "accents": "Käse & Brot".encode(),
    "control": b"a\x1b[31m\x07\n",
    "no text": b"\xff\xfe\x00\x80",
    "a list": b"72;111;102;",
    "quotes": b'"it\'s" \\x41 $(id)',
    "spaces": b"  Hof ",
    "dash": b"-p",
    "longest": bytes(range(200, 232)),
}
SUPPLICANT_ONLY: Root = {**base("3.11", "2.36", DEBIAN), "/usr/sbin/wpa_supplicant": ELF}


def told(found: After) -> list[bytes]:
    """Every name of a network that the system is told, read as the program that is told reads it."""
    names = []
    if KEYFILE in found.root:
        parser = configparser.RawConfigParser()
        parser.read_string(text(found.root[KEYFILE]))
        names.append(bytes(map(int, parser["wifi"]["ssid"].strip(";").split(";"))))
    if SUPPLICANT in found.root:
        words = re.findall(r"^  ssid=([0-9a-f]+)$", text(found.root[SUPPLICANT]), re.MULTILINE)
        names += map(bytes.fromhex, words)
    if "set_wlan" in text(found.boot.get("/firstrun.sh", b"")):
        line = next(line for line in text(found.boot["/firstrun.sh"]).splitlines() if "set_wlan" in line)
        words = [word for word in shlex.split(line)[2:] if word != "-p"]
        names.append(bytes(map(int, words[0].strip(";").split(";"))))  # it goes into a profile of NetworkManager
    if found.boot.get("/network-config"):
        yaml = pytest.importorskip("yaml")
        names += [
            n.encode() for n in yaml.safe_load(text(found.boot["/network-config"]))["wifis"]["wlan0"]["access-points"]
        ]
    if "/rpi-preseed.toml" in found.boot:
        tomllib = pytest.importorskip("tomllib")
        tables = tomllib.loads(text(found.boot["/rpi-preseed.toml"]))
        names += [tables["wlan"]["ssid"].encode()] if "wlan" in tables else []
    return names


def text(content: bytes | str) -> str:
    """A file's."""
    assert isinstance(content, bytes)
    return content.decode()


@pytest.mark.parametrize("system", CARDS)
@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_network_arrives(system: str, name: str) -> None:
    """On every system the radio is told these bytes, once, and its key nowhere else."""
    wishes = replace(WISHES, wifi_ssid=NAMES[name].decode("utf-8", "surrogateescape"))
    found = flashed(system, wishes)
    assert told(found) == [NAMES[name]]
    key = wishes.wifi_key
    holders = [path for path, content in {**found.root, **found.boot}.items() if key in str(content)]
    assert len(holders) == 1
    assert "DE" in str({**found.root, **found.boot}[SUPPLICANT]) if SUPPLICANT in found.root else True


@pytest.mark.parametrize("system", [name for name in CARDS if name.startswith("raspberry")])
def test_the_country_is_known_whatever_the_name(system: str) -> None:
    """A Raspberry Pi leaves its radio off until it knows one, also where the network is told to NetworkManager."""
    wishes = replace(WISHES, wifi_ssid=NAMES["no text"].decode("utf-8", "surrogateescape"))
    assert "cfg80211.ieee80211_regdom=DE" in text(flashed(system, wishes).boot["/cmdline.txt"]).split()


def test_a_name_is_typed_or_given_as_digits() -> None:
    """Digits are its bytes; both, or other digits, are refused, and so is a name of more than 32 bytes."""
    given = SimpleNamespace(wifi_ssid="", wifi_ssid_hex="FF00")
    assert Wishes(wifi_ssid=asked._ssid(given)).ssid == b"\xff\x00"  # type: ignore[arg-type]
    for words in (("Hof", "ff"), ("", "xy"), ("", "f")):
        with pytest.raises(UsageError, match="--wifi-ssid"):
            asked._ssid(SimpleNamespace(wifi_ssid=words[0], wifi_ssid_hex=words[1]))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at most 32 bytes, found 33"):
        Wishes(wifi_ssid="ä" * 16 + "b")


def test_an_image_without_wifi_says_so() -> None:
    """Neither NetworkManager nor wpa_supplicant: a sentence, and no file with a key."""
    found = flashed(Card(base("3.11", "2.36", DEBIAN)))
    assert any("Wi-Fi was not set up" in sentence for sentence in found.said)
    assert WISHES.wifi_key not in str(found.root)


@pytest.mark.parametrize("lines", [b"source /etc/network/interfaces.d/*\n", b"auto lo\niface lo inet loopback\n", None])
def test_ifupdown_brings_address_and_names(lines: bytes | None) -> None:
    """Where an image has it with a client of DHCP: one stanza, which interfaces names, and no networkd beside it."""
    root: Root = {**SUPPLICANT_ONLY, "/usr/sbin/ifup": ELF, "/usr/sbin/dhclient": ELF}
    root |= {INTERFACES: lines} if lines is not None else {}
    found = flashed(Card(root))
    assert f"wpa-conf {SUPPLICANT}" in text(found.root[STANZA])
    assert text(found.root.get(INTERFACES, lines or b"")).count("interfaces.d") == 1
    assert not [path for path in found.root if "networkd" in path or "resolv" in path]


def test_resolved_looks_up_names() -> None:
    """Beside networkd where the image has it: enabled, and resolv.conf is its own."""
    found = flashed(Card({**SUPPLICANT_ONLY, "/usr/lib/systemd/system/systemd-resolved.service": b"[Unit]\n"}))
    assert found.root["/etc/resolv.conf"] == "/run/systemd/resolve/stub-resolv.conf"
    assert found.root["/etc/systemd/system/multi-user.target.wants/systemd-resolved.service"]
    assert SCRIPT not in found.root


def test_without_resolved_a_unit_writes_the_name_servers_down(tmp_path: Path) -> None:
    """The script, run by sh: servers and domains of networkd's state; nothing known changes nothing; a link goes."""
    found = flashed(Card(SUPPLICANT_ONLY))
    script = text(found.root[SCRIPT])
    (tmp_path / "etc").mkdir()
    (tmp_path / "run/systemd/netif").mkdir(parents=True)
    resolv, state = tmp_path / "etc/resolv.conf", tmp_path / "run/systemd/netif/state"

    def run() -> None:
        environment = {**os.environ, "EDGEQUILT_ROOT": str(tmp_path)}
        subprocess.run(["sh"], input=script, text=True, check=True, env=environment)

    resolv.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    run()
    state.write_text("# private\nOPER_STATE=routable\n")
    run()
    assert resolv.is_symlink()
    state.write_text("OPER_STATE=routable\nDNS=192.168.7.1 fe80::1%3#router.lan\nDOMAINS=lan farm.lan\n")
    run()
    assert resolv.read_text() == "nameserver 192.168.7.1\nnameserver fe80::1%3\nsearch lan farm.lan\n"
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == ["resolv.conf"]
