"""A real hub and a real agent that is killed in the middle of a download: what it has is not fetched again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub import authority
from hub.serving.control import ask
from hub.store import registry
from tests.edge.boards import hub_key, make_board
from tests.edge.hub import FLEET
from tests.edge.test_renewing import NAME, golden_bundle, sign
from tests.processes import started, until
from wire.bundle import MANIFEST
from wire.files import digest
from wire.keys import write_key
from wire.manifest import File, parse_manifest, to_bytes
from wire.tls import new_request

pytestmark = [pytest.mark.fleet, pytest.mark.heavy]
LARGE = os.urandom(3 << 20)
TOML = """
[agent]
name = "{name}"
fleet = "{fleet}"
state = "state"
data = "data.jsonl"
[broker]
url = "mqtt://127.0.0.1:{port}"
ca = "{ca}"
certificate = "keys/tls.pem"
key = "keys/{name}.tls.key"
[keys]
device = "keys/{name}.key"
hub = "keys/hub.pub"
publisher = "keys/tester.pub"
"""


def test_a_killed_agent_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed in the middle of a large file, it asks for the rest alone, proves the bundle, and says hello with it."""
    board, hub = make_board(tmp_path / "board"), tmp_path / "hub"
    write_key(hub_key(board), hub)
    registry.create(hub, FLEET, [board.folder / "keys" / "tester.pub"], "127.0.0.1:0")
    told = (hub / "hub.toml").read_text().replace("# rate_per_device = 0", "rate_per_device = 1000000")
    (hub / "hub.toml").write_text(told)
    home = registry.open_home(hub)
    registry.enroll(home, NAME, board.key.public.line)
    folder = tmp_path / "new"
    golden_bundle(folder, board.publisher)
    (folder / "large.bin").write_bytes(LARGE)
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    large = File("large.bin", len(LARGE), digest(LARGE))
    bundle = sign(folder, board.publisher, to_bytes(replace(manifest, files=(*manifest.files, large))))
    registry.add_bundle(home, folder)
    home.ledger.close()
    _, request = new_request(NAME, board.folder / "keys")
    made = authority.issue_device(authority.load(hub), NAME, request.read_bytes(), 10)
    (board.folder / "keys" / "tls.pem").write_bytes(made)

    command = [sys.executable, "-m", "edgequilt"]
    with started([*command, "hub", "up", str(hub), "--port", "0", "--json"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        config = board.folder / "agent.toml"
        config.write_text(TOML.format(name=NAME, fleet=FLEET, port=port, ca=hub / "ca.pem"))
        agent = [*command, "agent", "run", "--config", str(config), "--quiet"]
        part = board.folder / "state" / "bundles" / bundle / "large.bin.part"

        def shown() -> dict[str, Any]:
            return ask(hub, {"request": "bundle show"})

        with started(agent) as first:
            until(lambda: _row(hub)["online"], first)
            ask(hub, {"request": "bundle assign", "bundle": bundle, "devices": [NAME]})
            until(lambda: part.exists() and part.stat().st_size > 1 << 20, first)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        here = part.stat().st_size
        assert 1 << 20 < here < len(LARGE)
        with started(agent) as second:
            until(lambda: shown()["devices"][0]["state"] == "runs it", second)
        fetches = [f for f in shown()["fetches"] if f["file"] == large.sha256]
        assert [f["start"] for f in fetches] == [0, here]
        assert fetches[-1]["bytes"] == len(LARGE) - here
        others = [f["file"] for f in shown()["fetches"] if f["file"] != large.sha256]
        assert len(others) == len(set(others))
        status = json.loads((board.folder / "state" / "status.json").read_text())
        assert status["bundle"] == bundle
        assert status["core_bytes"] < 35 << 20  # it begins as a new program, so what fetching took does not stay


def _row(hub: Path) -> dict[str, Any]:
    found: dict[str, Any] = ask(hub, {"request": "status"})["devices"][0]
    return found
