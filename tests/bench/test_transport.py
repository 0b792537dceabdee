"""The transport bench runs to its end, and its tables are of what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.load.processes import born, child, first_line
from bench.load.results import keep, put_between, read
from bench.transport.measure import percentile
from bench.transport.tables import HEADER, tables
from tests.conftest import ROOT
from tests.programs import mosquitto

TURN: dict[str, Any] = {
    "updates": 2,
    "wall_s": 0.5,
    "server_cpu_s": 0.02,
    "broker_cpu_s": 0.01,
    "load_cpu_s": 0.01,
    "p50_s": 0.1,
    "p95_s": 0.2,
    "server_pss_bytes": 1 << 20,
    "broker_pss_bytes": 1 << 19,
    "asked_again": 0,
}


def test_a_table_has_medians_and_the_hub_over_the_floor() -> None:
    """Rates, CPU of one update and times are those of the turns; the last row divides them."""
    slow = {**TURN, "wall_s": 1.0, "server_cpu_s": 0.04}
    cell = {
        "update_bytes": 10,
        "clients": 2,
        "broker": "TLS",
        "machine": {"load": 0.1},
        "versions": {"python": "3"},
        "turns": {"hub": [slow, slow, slow], "floor": [TURN, TURN, TURN]},
    }
    lines = tables({"cells": {"x": cell}}, markdown=True).splitlines()

    assert [c.strip() for c in lines[2].split("|")[1:-1]] == HEADER
    hub, floor, ratio = ([c.strip() for c in line.split("|")[1:-1]] for line in lines[4:7])
    assert (hub[1], floor[1], ratio[1]) == ("2.0 (2.0 to 2.0)", "4.0 (4.0 to 4.0)", "0.50")
    assert (hub[2], floor[2], ratio[2]) == ("20.0 (20.0 to 20.0)", "10.0 (10.0 to 10.0)", "2.00")


def test_percentiles_are_of_what_was_measured() -> None:
    """The nearest rank: a value that was there, whatever the order."""
    values = [float(v) for v in range(100, 0, -1)]

    assert (percentile(values, 95), percentile(values, 50), percentile([7.0], 95)) == (96.0, 51.0, 7.0)


def test_a_run_goes_on_with_the_file_of_the_one_before(tmp_path: Path) -> None:
    """A cell is added to what is there, and takes the place of the one of its name."""
    for name, value in (("a", 1), ("b", 2), ("a", 3)):
        keep(tmp_path / "found.json", name, {"value": value})

    assert read(tmp_path / "found.json") == {"cells": {"a": {"value": 3}, "b": {"value": 2}}}


def test_nothing_is_left_of_a_program_and_what_it_started() -> None:
    """A descendant in a session of its own ends with the block, too."""
    code = (
        "import subprocess, sys, time\n"
        "below = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'], start_new_session=True)\n"
        "print(below.pid, flush=True)\n"
        "time.sleep(99)"
    )
    with child([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        below = int(first_line(process))
        assert born(below)

    assert process.poll() is not None
    assert not born(below)


def test_tables_go_where_they_belong(tmp_path: Path) -> None:
    """What stands between the marks is put anew, and nothing else."""
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n")

    put_between(page, "x", "| new |")
    put_between(page, "x", "| newer |")

    assert page.read_text() == (
        "a\n<!-- x: begin -->\n| newer |\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n"
    )


@pytest.mark.heavy
@pytest.mark.fleet
def test_a_small_run_measures_both_sides(tmp_path: Path) -> None:
    """Every column of hub and floor is there, no update lacks its receipt, and the hub costs more than counting."""
    mosquitto()
    out = tmp_path / "found.json"
    command = [sys.executable, "-m", "bench.transport", "--quick", "--only", "10 KB TLS", "--out", str(out)]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert ended.returncode == 0, ended.stderr
    cell = json.loads(out.read_text())["cells"]["10 KB TLS"]
    assert set(cell["turns"]) == {"hub", "hub alone", "floor", "floor alone"}
    for turns in cell["turns"].values():
        assert [set(t) for t in turns] == [set(TURN)] * 2
        assert all(t["updates"] == cell["clients"] and t["wall_s"] > t["p50_s"] > 0 for t in turns)
    assert sum(t["server_cpu_s"] for t in cell["turns"]["hub"]) > 0
