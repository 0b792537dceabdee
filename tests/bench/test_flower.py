"""The bench of rounds runs to its end on both sides, and its tables are of what it measured."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.flower.__main__ import cells
from bench.flower.proxy import counting
from bench.flower.rounds import Round, summed
from bench.flower.tables import tables
from bench.flower.theirs import ENVIRONMENT
from bench.load.sampler import Series
from tests.conftest import ROOT
from tests.programs import mosquitto

MIB = 1 << 20


def cell(side: str, nodes: int, seconds: float, pss: int, **more: Any) -> dict[str, Any]:
    """What a run leaves of a cell."""
    found = {
        "side": side,
        "nodes": nodes,
        "payload_bytes": 4096,
        "counted": False,
        "rounds": [{"s": seconds, "updates": nodes, "bytes_up": 4096, "bytes_down": 8192}],
        "server_cpu_s_an_update": seconds / nodes,
        "clients_cpu_s_a_round": 0.1,
        "peak_pss_bytes": pss,
        "peak_anonymous_bytes": pss,
        "machine": {"processor": "x", "cores": 2, "load": 0.0},
        "versions": {"python": "3"},
    }
    return {**found, **more}


def test_the_hub_is_held_against_the_best_arm() -> None:
    """Rates against the fastest arm, memory against the most sparing one; an arm that was late says so."""
    known = [
        cell("hub", 4, 1.0, 10 * MIB),
        cell("hub", 16, 1.0, 22 * MIB),
        cell("default", 4, 8.0, 100 * MIB),
        cell("default", 16, 8.0, 148 * MIB),
        cell("packed", 4, 4.0, 100 * MIB),
        cell("packed", 16, 4.0, 220 * MIB),
        {**cell("default", 64, 1.0, MIB), "rounds": [], "more_than_s": 150.0},
        cell("hub", 4, 1.0, MIB, counted=True),
    ]
    lines = tables({"cells": {str(n): c for n, c in enumerate(known)}}, markdown=True).splitlines()

    assert "| 16 | packed | 4.0 | 4.0 | 4.0 |" in lines
    assert "no round ended in 150 s: Flower, default, 64 nodes" in lines
    assert "| hub | 16 | 4 | 0.25 | 8 | 0.50 |" in lines


def test_what_a_server_took_is_of_its_rounds_alone() -> None:
    """CPU between the first beginning and the last end, also of a process that came and went; peaks likewise."""
    looks = [
        (0.0, {"1 link": (5.0, 9 * MIB, MIB)}),
        (1.0, {"1 link": (6.0, 2 * MIB, MIB)}),
        (2.0, {"1 link": (7.0, 3 * MIB, MIB), "2 app": (0.5, MIB, MIB)}),
        (3.0, {"1 link": (9.0, 2 * MIB, MIB)}),
        (9.0, {"1 link": (99.0, 99 * MIB, MIB)}),
    ]
    found = summed([Round(1.0, 2.0, 2), Round(2.0, 3.0, 2)], Series(looks), 2, 0.5)

    assert found["server_cpu_s_an_update"] == pytest.approx((9.0 - 6.0 + 0.5) / 4)
    assert (found["peak_pss_bytes"], found["peak_anonymous_bytes"]) == (4 * MIB, 2 * MIB)


def test_the_proxy_counts_both_ways() -> None:
    """Bytes arrive as they were sent and are counted, each way by itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        counting(server.getsockname()[1]) as proxy,
        closing(socket.create_connection(("127.0.0.1", proxy.port))) as client,
    ):
        inside, _ = server.accept()
        with inside:
            client.sendall(b"question")
            assert inside.recv(99) == b"question"
            inside.sendall(b"an answer")
            assert client.recv(99) == b"an answer"
        assert client.recv(99) == b""
        assert proxy.counted == (8, 9)


def run(*names: str, out: Path) -> dict[str, Any]:
    """A quick run of some cells."""
    command = [sys.executable, "-m", "bench.flower", "--quick", "--out", str(out), "--only", *names]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(out.read_text())["cells"]
    assert set(found) == set(names), ended.stderr
    return found


def whole(found: dict[str, Any], side: str) -> None:
    """A cell that went through has all that its row needs."""
    assert found["side"] == side
    assert found["rounds"][0]["updates"] == found["nodes"] == 4
    assert found["rounds"][0]["s"] > 0
    assert found["server_cpu_s_an_update"] > 0
    assert found["peak_pss_bytes"] > found["peak_anonymous_bytes"] > MIB


@pytest.mark.heavy
@pytest.mark.fleet
def test_the_hub_goes_through_its_rounds(tmp_path: Path) -> None:
    """Rounds end with a version, and all bytes of the updates pass the proxy."""
    mosquitto()
    found = run("bytes, hub", out=tmp_path / "found.json")["bytes, hub"]

    whole(found, "hub")
    carried = found["nodes"] * found["payload_bytes"]
    assert carried < found["rounds"][0]["bytes_up"] < 1.2 * carried
    assert carried < found["rounds"][0]["bytes_down"] < 1.5 * carried


@pytest.mark.heavy
@pytest.mark.fleet
@pytest.mark.skipif(
    not (ENVIRONMENT / "bin" / "flower-superlink").exists(),
    reason="no environment of Flower: make it with sh bench/flower/environment.sh",
)
def test_flower_goes_through_its_rounds(tmp_path: Path) -> None:
    """Nodes that are registered answer over TLS, and the strategy makes one adapter of them."""
    whole(run("packed, tuned polls, 4", out=tmp_path / "found.json")["packed, tuned polls, 4"], "packed, tuned polls")


def test_every_arm_is_measured_at_every_number_of_nodes() -> None:
    """Default, packed and tuned are always there beside the hub."""
    found = {(c.side, c.nodes) for c in cells().values()}

    for nodes in (4, 16, 64, 256):
        assert {(side, nodes) for side in ("hub", "default", "packed", "tuned polls")} <= found
