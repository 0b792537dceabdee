"""Which system an image is taken for, where several signs are there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.flash.systems.system import recognise
from tests.devices.flash.roots import BOOT, CARDS, ISSUE, UBUNTU, Card, base
from tests.devices.flash.seen import WISHES, flashed, seen

ARMBIAN = CARDS["armbian"]
FIRMWARE = {**BOOT, "user-data": b"#cloud-config\n", "meta-data": b"", "network-config": b""}


@pytest.mark.parametrize("boot", [BOOT, FIRMWARE])
def test_armbian_for_a_raspberry_pi_is_armbian(boot: dict[str, bytes]) -> None:
    """Its FAT partition looks like Raspberry Pi OS's: what the root says of itself wins, and FAT stays as it is."""
    card = replace(ARMBIAN, boot=boot)
    found = flashed(card)
    assert found.system == "armbian"
    assert recognise(seen(card)).title(seen(card)) == "Armbian Rock 5B 25.8.1"
    assert found.boot == {f"/{name}": content for name, content in boot.items()}
    assert b"edgequilt" in found.root["/etc/passwd"]
    assert "/root/.not_logged_in_yet" in found.root


def test_ubuntu_for_a_raspberry_pi_is_called_so() -> None:
    """It takes wishes by cloud-init as Raspberry Pi OS does, and is called by its own name."""
    card = Card(base("3.12", "2.39", UBUNTU), FIRMWARE)
    found = recognise(seen(card))
    assert (found.name, found.title(seen(card))) == ("raspberry-pi-os", "Ubuntu 22.04.4 LTS")
    assert b"barn-1" in flashed(card).boot["/user-data"]


@pytest.mark.parametrize("name", CARDS)
def test_every_system_is_itself(name: str) -> None:
    """Signs of the others are not in it."""
    wanted = "raspberry-pi-os" if name.startswith("raspberry") else name
    assert flashed(name, WISHES).system == wanted


def test_raspberry_pi_os_with_an_empty_issue_is_itself() -> None:
    """The file is there, whatever is in it."""
    card = CARDS["raspberry pi os, firstrun"]
    for issue in (b"", b"\n", ISSUE):
        one = replace(card, root={**card.root, "/etc/rpi-issue": issue})
        assert recognise(seen(one)).title(seen(one))
