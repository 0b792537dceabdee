"""What a board says of its heat and power, from made-up files of a kernel; and when it says it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.health.readings import Health, read_health
from edge.health.warnings import LIMITS, SAYS, warnings
from edge.health.watch import EVERY_S, Watch
from tests.edge.boards import Board, Farm, HereLink, make_board
from tests.edge.test_surroundings import kernel
from wire.memory import Network

MIB = 1 << 20
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
FIRMWARE_PI5 = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
VOLT = {"sys/class/hwmon/hwmon0/name": "cpu_thermal\n", "sys/class/hwmon/hwmon1/name": "rpi_volt\n"}
ALARM = "sys/class/hwmon/hwmon1/in0_lcrit_alarm"
COOLER = "sys/class/thermal/cooling_device0"
ZONE = "sys/class/thermal/thermal_zone{}/temp"

TREES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "nothing known": ({}, {}),
    "the hottest zone counts, broken ones do not": (
        {ZONE.format(0): "48312\n", ZONE.format(1): "61000\n", ZONE.format(2): "\n"},
        {"temperature_c": 61.0},
    ),
    "a Raspberry Pi 4 with a good supply": (
        {**VOLT, ALARM: "0\n", FIRMWARE: "0\n"},
        {"under_voltage": False, "throttled": False, "under_voltage_seen": False, "throttled_seen": False},
    ),
    "one with a weak supply, slowed down": (
        {**VOLT, ALARM: "1\n", FIRMWARE: "50005\n"},
        {"under_voltage": True, "throttled": True, "under_voltage_seen": True, "throttled_seen": True},
    ),
    "one whose supply was weak": (
        {FIRMWARE: "0x50000\n"},
        {"under_voltage": False, "throttled": False, "under_voltage_seen": True, "throttled_seen": True},
    ),
    "a Raspberry Pi 5 at its soft limit": (
        {FIRMWARE_PI5: "80008\n"},
        {"under_voltage": False, "throttled": True, "under_voltage_seen": False, "throttled_seen": True},
    ),
    "the driver alone": ({**VOLT, ALARM: "1\n"}, {"under_voltage": True}),
    "another sensor's alarm": ({"sys/class/hwmon/hwmon0/name": "ina219\n", ALARM: "1\n"}, {}),
    "a Jetson that cools its cores": (
        {f"{COOLER}/type": "cpufreq-cpu0\n", f"{COOLER}/cur_state": "3\n"},
        {"throttled": True},
    ),
    "an older kernel that does not": (
        {f"{COOLER}/type": "thermal-cpufreq-0\n", f"{COOLER}/cur_state": "0\n"},
        {"throttled": False},
    ),
    "a fan is no throttling": ({f"{COOLER}/type": "pwm-fan\n", f"{COOLER}/cur_state": "3\n"}, {}),
    "load, memory, uptime": (
        {
            "proc/loadavg": "0.52 0.58 0.59 1/467 1234\n",
            "proc/uptime": "350735.47 234388.90\n",
            "proc/meminfo": "MemTotal: 427008 kB\nMemAvailable: 299008 kB\n",
        },
        {"load": 0.52, "uptime_s": 350735.47, "memory_available_bytes": 299008 * 1024},
    ),
}


@pytest.mark.parametrize(("files", "found"), TREES.values(), ids=TREES.keys())
def test_unknown_stays_unknown(tmp_path: Path, files: dict[str, str], found: dict[str, Any]) -> None:
    """What the kernel's files say is read, and everything that they do not say is None."""
    health = read_health(tmp_path / "no such folder", kernel(tmp_path, files))

    assert health == replace(Health(), **found)


def test_the_room_is_that_of_the_folder(tmp_path: Path) -> None:
    """Free bytes are those that the system tells of the folder's file system."""
    told = os.statvfs(tmp_path)
    free = read_health(tmp_path).disk_free_bytes

    assert free is not None
    assert abs(free - told.f_bavail * told.f_frsize) < 64 * MIB  # others write meanwhile


CROSSINGS = {
    "hot": (Health(temperature_c=79.9), Health(temperature_c=80.0), Health(temperature_c=75.1)),
    "under-voltage": (Health(under_voltage=False), Health(under_voltage=True), Health(under_voltage=True)),
    "throttled": (Health(throttled=False), Health(throttled=True), Health(throttled=True)),
    "memory-low": (
        Health(memory_available_bytes=48 * MIB),
        Health(memory_available_bytes=48 * MIB - 1),
        Health(memory_available_bytes=64 * MIB - 1),
    ),
    "disk-low": (
        Health(disk_free_bytes=100 * MIB),
        Health(disk_free_bytes=100 * MIB - 1),
        Health(disk_free_bytes=150 * MIB - 1),
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_warning_begins_at_one_limit_and_ends_at_another(name: str) -> None:
    """Short of the first limit there is none, beyond it there is; on the way back it stays until the second."""
    fine, bad, between = CROSSINGS[name]

    assert warnings(fine) == frozenset()
    assert warnings(bad) == {name}
    assert warnings(between, frozenset({name})) == {name}
    assert warnings(Health(), frozenset({name})) == frozenset()
    assert SAYS[name]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a bundle."""
    return make_board(tmp_path / "board")


def test_the_hub_hears_of_heat_when_it_begins_and_when_it_ends_and_not_in_between(board: Board, tmp_path: Path) -> None:
    """One hello at the connection, one when a limit is crossed, one when it is over; 50 minutes of heat say no more."""
    root, zone = tmp_path / "root", ZONE.format(0)
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    core.watch = Watch(board.config.state, kernel(root, {zone: "50000\n"}))
    farm.run(seconds=3 * EVERY_S)
    assert [h.warnings for h in farm.hub.hellos] == [()]

    kernel(root, {zone: "84500\n", ALARM: "1\n", **VOLT})
    farm.run(seconds=3000)
    assert [h.warnings for h in farm.hub.hellos] == [(), ("hot", "under-voltage")]
    assert (farm.hub.hellos[-1].temperature_c, farm.hub.hellos[-1].under_voltage) == (84.5, True)
    told = json.loads((board.config.state / "status.json").read_text())
    assert told["warnings"] == ["hot", "under-voltage"]
    assert told["health"]["temperature_c"] == 84.5

    kernel(root, {zone: "77000\n", ALARM: "0\n"})
    farm.run(seconds=2 * EVERY_S)
    kernel(root, {zone: "60000\n"})
    farm.run(seconds=3000)
    assert [h.warnings for h in farm.hub.hellos][2:] == [("hot",), ()]


def test_a_board_that_is_away_says_it_when_it_is_back(board: Board, tmp_path: Path) -> None:
    """What began without a connection is in the hello of the next one."""
    root = kernel(tmp_path / "root", {ZONE.format(0): "50000\n"})
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    core.watch = Watch(board.config.state, root)
    farm.run(seconds=2)
    assert farm.transport is not None
    farm.transport.drop()
    kernel(root, {ZONE.format(0): "90000\n"})
    farm.run(seconds=2 * EVERY_S)
    assert [h.warnings for h in farm.hub.hellos] == [()]

    farm.transport.restore()
    farm.run(seconds=2)
    assert [h.warnings for h in farm.hub.hellos] == [(), ("hot",)]
