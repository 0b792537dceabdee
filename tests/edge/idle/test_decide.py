"""When a board trains, and what it senses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from console.errors import UsageError
from edge.cli import with_hours
from edge.config import read_config
from edge.idle.decide import Go, Readings, Wait, decide
from edge.idle.hours import parse_hours, within
from edge.idle.sense import hottest, others, ticks
from edge.idle.settings import ALWAYS, Idle
from tests.edge.boards import make_board

NIGHT = Idle(quiet_hours="22:00-06:00")
CALM = Readings(minute=12 * 60)
REASONS = {
    "outside of the quiet hours": (replace(CALM, minute=21 * 60 + 59), NIGHT, "it is 21:59, outside of the quiet"),
    "on battery": (replace(CALM, power="battery"), Idle(), "the board runs on battery"),
    "hot": (replace(CALM, temperature_c=75.0), Idle(), "the board has 75 °C, the limit is 75 °C"),
    "not cool enough again": (replace(CALM, temperature_c=71.0, waits=True), Idle(), "the limit is 70 °C"),
    "loaded": (replace(CALM, others=0.6), Idle(), "other programs keep 60 % of the cores busy, the limit is 50 %"),
    "not calm enough again": (replace(CALM, others=0.45, waits=True), Idle(), "the limit is 40 %"),
    "load not known yet": (replace(CALM, others=None), Idle(), "the load is being measured"),
    "a request a moment ago": (replace(CALM, quiet_s=9.9), ALWAYS, "the last request came less than 10 s ago"),
    "a file is being written": (replace(CALM, settled=False), ALWAYS, "samples are being written"),
}
GOES = {
    "nothing is the matter": (CALM, Idle()),
    "within the quiet hours": (replace(CALM, minute=22 * 60), NIGHT),
    "on mains": (replace(CALM, power="mains"), Idle()),
    "a board that does not tell its power": (CALM, Idle()),
    "battery is allowed": (replace(CALM, power="battery"), Idle(on_battery=True)),
    "warm, and it goes on": (replace(CALM, temperature_c=74.9), Idle()),
    "the heat does not matter": (replace(CALM, temperature_c=99.0), Idle(temperature_c=0)),
    "the load does not matter": (replace(CALM, others=None), Idle(load=1)),
    "a request while it goes on": (replace(CALM, quiet_s=0.0, begun=True), Idle()),
    "a file that is written while it goes on": (replace(CALM, settled=False, begun=True), Idle()),
    "whatever is the matter, nothing was told": (replace(CALM, power="battery", others=1.0, temperature_c=99), ALWAYS),
}


@pytest.mark.parametrize(("readings", "settings", "words"), REASONS.values(), ids=REASONS)
def test_training_waits(readings: Readings, settings: Idle, words: str) -> None:
    """Each thing that is against training is a reason, with its figures."""
    found = decide(readings, settings)

    assert isinstance(found, Wait)
    assert words in found.reason


@pytest.mark.parametrize(("readings", "settings"), GOES.values(), ids=GOES)
def test_training_goes_on(readings: Readings, settings: Idle) -> None:
    """Where nothing is against it, or what is does not matter, the board trains."""
    assert decide(readings, settings) == Go()


def test_hours_of_the_day_are_counted_one_by_one() -> None:
    """Of all minutes of a day, those between 22:00 and 06:00 are in, as a clock's hands would say."""
    night = {m for m in range(1440) if within(parse_hours("22:00-06:00"), m)}

    assert night == {*range(22 * 60, 24 * 60), *range(6 * 60)}
    assert {m for m in range(1440) if within(parse_hours("00:00-24:00"), m)} == set(range(1440))
    assert {m for m in range(1440) if within(parse_hours("1:00-1:02,20:00-24:00"), m)} == {60, 61, *range(1200, 1440)}


@pytest.mark.parametrize(
    "text", ["", "22-6", "22:00", "25:00-06:00", "22:60-23:00", "06:00-06:00", "22:00-06:00,", "a"]
)
def test_hours_that_are_none_are_refused(text: str) -> None:
    """What does not say two times of a day is refused with an example."""
    with pytest.raises(ValueError, match="expected hours"):
        parse_hours(text)


def test_a_wrong_hour_in_agent_toml_is_named(tmp_path: Path) -> None:
    """The entry is named with what was found, among everything else that is wrong."""
    path = tmp_path / "agent.toml"
    tables = '[broker]\nurl = "mqtt://x"\n[keys]\ndevice = "d"\nhub = "h"\npublisher = "p"\n'
    agent = '[agent]\nname = "a"\nfleet = "f"\nstate = "s"\ndata = "d"\n'
    path.write_text(f'{agent}{tables}[idle]\nquiet_hours = "late"\n[local]\nhttp = "192.168.1.2:80"\n')

    with pytest.raises(UsageError) as found:
        read_config(path)

    assert "idle.quiet_hours: expected hours like 22:00-06:00, found 'late'" in str(found.value)
    assert "local.http: expected an address of this board alone, like 127.0.0.1:8427" in str(found.value)


def test_load_is_that_of_others(tmp_path: Path) -> None:
    """Of two cores that were busy for 150 of 200 ticks, 60 of them ours, others kept 45 % busy."""

    def at(line: str, own: str) -> None:
        (tmp_path / "proc/7").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/stat").write_text(f"{line}\ncpu0 1 1 1 1\n")
        (tmp_path / "proc/7/stat").write_text(f"7 (py (x) y) R {' '.join(['0'] * 10)} {own} 20 0\n")

    # user nice system idle iowait irq softirq steal guest guest_nice: the last two are in the first two already
    at("cpu  100 10 20 300 40 1 2 3 50 5", "10 5 0 0")
    before = ticks([7, 8], tmp_path)
    at("cpu  200 30 40 340 50 3 4 9 90 9", "50 15 8 2")
    after = ticks([7, 8], tmp_path)

    assert before is not None
    assert after is not None
    assert others(before, after) == pytest.approx((150 - 60) / 200)
    assert ticks([7], tmp_path / "nowhere") is None


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    """Of zones in thousandths of a degree the hottest is told; one that cannot be read is left out."""
    for index, text in enumerate(("45123\n", "61000\n", "broken\n")):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{index}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)

    assert hottest(tmp_path) == 61.0
    assert hottest(tmp_path / "nowhere") is None


def test_hours_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    """`--quiet-hours` changes the hours and nothing else, of a board that was told something or nothing."""
    config = make_board(tmp_path).config

    assert with_hours(config, None) == config
    assert with_hours(config, "1:00-2:00").idle == replace(ALWAYS, quiet_hours="1:00-2:00")
    told = replace(config, idle=Idle(load=0.2, quiet_hours="22:00-06:00"))
    assert with_hours(told, "1:00-2:00").idle == Idle(load=0.2, quiet_hours="1:00-2:00")
    with pytest.raises(UsageError, match=r"--quiet-hours: expected hours like 22:00-06:00, found 'soon'"):
        with_hours(config, "soon")
