"""What a board says of its power and its network, from made-up files of a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.surroundings import Surroundings, surroundings

ROUTE = "Iface Destination Gateway Flags\neth9 0000A8C0 00000000 0001\n{name} 00000000 0100A8C0 0003\n"


def kernel(root: Path, files: dict[str, str]) -> Path:
    """A tree of files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CASES = {
    "nothing known": ({}, Surroundings()),
    "plugged, with a battery": (
        {
            "sys/class/power_supply/AC/type": "Mains\n",
            "sys/class/power_supply/AC/online": "1\n",
            "sys/class/power_supply/BAT0/type": "Battery\n",
            "sys/class/power_supply/BAT0/capacity": "80\n",
        },
        Surroundings("mains", 80),
    ),
    "unplugged": (
        {
            "sys/class/power_supply/AC/type": "Mains\n",
            "sys/class/power_supply/AC/online": "0\n",
            "sys/class/power_supply/BAT0/type": "Battery\n",
            "sys/class/power_supply/BAT0/capacity": "31\n",
        },
        Surroundings("battery", 31),
    ),
    "only a mouse": (
        {
            "sys/class/power_supply/hid/type": "Battery\n",
            "sys/class/power_supply/hid/scope": "Device\n",
            "sys/class/power_supply/hid/capacity": "5\n",
        },
        Surroundings(),
    ),
    "a cable": ({"proc/net/route": ROUTE.format(name="eth0")}, Surroundings(network="wired")),
    "no cable": (
        {"proc/net/route": ROUTE.format(name="wlan0"), "sys/class/net/wlan0/wireless/x": ""},
        Surroundings(network="wifi"),
    ),
    "a modem": ({"proc/net/route": ROUTE.format(name="wwan0")}, Surroundings(network="metered")),
    "no way out": ({"proc/net/route": "Iface Destination Gateway\n"}, Surroundings()),
}


@pytest.mark.parametrize(("files", "found"), CASES.values(), ids=CASES.keys())
def test_what_the_kernel_knows_is_said_and_nothing_else(
    tmp_path: Path, files: dict[str, str], found: Surroundings
) -> None:
    """Power is the board's, not its mouse's; the network is that of the default route; absent files say nothing."""
    assert surroundings(kernel(tmp_path, files)) == found
