"""Bundles from a real hub over real HTTPS: fetched, proved, switched to; and what an agent never takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy

from edge.config import BrokerTable
from edge.core import Core
from edge.setup import prepare
from edge.shelf import Shelf
from hub import authority
from hub.requests.answer import answer
from hub.serving.service import Service
from hub.store import registry
from hub.web.server import WebServer
from hub.web.table import ROUTES
from tests.edge.boards import Board, Clock, HereLink, hub_key, make_board
from tests.edge.bundles import flip, make_bundle, make_weights
from tests.edge.hub import FLEET
from wire import messages as m
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import detached, seal
from wire.files import digest
from wire.keys import PrivateKey, new_key, write_key
from wire.manifest import File, parse_manifest, to_bytes
from wire.memory import MemoryTransport, Network
from wire.tls import new_request
from wire.topics import NO_MODEL, topic_of

NAME = "barn-1"


def golden_bundle(folder: Path, key: PrivateKey, seed: int = 0, golden_off: float = 0.0, **wanted: Any) -> str:
    """A bundle of one segment with a golden input and output, computed by onnxruntime itself; its digest."""
    make_bundle(folder, key, kind="text", segments=(1,), weights=make_weights(1, seed=seed), **wanted)
    manifest = parse_manifest((folder / MANIFEST).read_bytes())
    graph = next(g for g in manifest.segments[0].graphs if g.kind == "forward")
    fed = {"input_ids": np.full((2, 6), 3, np.int64), "attention_mask": np.ones((2, 6), np.int64)}
    session = onnxruntime.InferenceSession(str(folder / graph.file), providers=["CPUExecutionProvider"])
    needed = {i.name for i in session.get_inputs()}
    (features,) = session.run(["features"], {k: v for k, v in fed.items() if k in needed})
    tensors = {**{f"feed/{k}": v for k, v in fed.items()}, "fetch/features": features + np.float32(golden_off)}
    (folder / manifest.golden.file).write_bytes(safetensors.numpy.save(tensors))
    files = tuple(
        File(f.path, (folder / f.path).stat().st_size, digest((folder / f.path).read_bytes())) for f in manifest.files
    )
    return sign(folder, key, to_bytes(replace(manifest, files=files)))


def sign(folder: Path, key: PrivateKey, body: bytes) -> str:
    """Write a manifest and its signature."""
    (folder / MANIFEST).write_bytes(body)
    (folder / SIGNATURE).write_bytes(detached(key, body))
    return digest(body)


class Farm:
    """A hub with HTTPS, and a board that was told nothing but how to reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board: Board = make_board(folder / "board")
        self.clock, self.network = Clock(1000.0), Network()
        self.home_folder = folder / "hub"
        write_key(hub_key(self.board), self.home_folder)
        keys = folder / "board" / "keys"
        registry.create(self.home_folder, FLEET, [keys / f"{self.board.publisher.public.name}.pub"], "127.0.0.1:0")
        home = registry.open_home(self.home_folder)
        registry.enroll(home, NAME, self.board.key.public.line)
        home.ledger.close()
        self.hub = Service(self.home_folder, MemoryTransport(self.network, "hub"), self.clock)
        made = authority.create(FLEET, self.home_folder)
        authority.issue_server(made, ["127.0.0.1"], self.home_folder, "web")
        files = (self.home_folder / "web.pem", self.home_folder / "web.key", self.home_folder / "ca.pem")
        counter = self.hub.bundles
        self.web = WebServer("127.0.0.1", 0, files, ROUTES, lambda f: f(self.hub), sent=counter.fetched)
        counter.port = self.web.port
        self.hub.start()
        key, request = new_request(NAME, keys)
        (keys / "tls.pem").write_bytes(authority.issue_device(made, NAME, request.read_bytes(), 10))
        broker = BrokerTable("mqtt://127.0.0.1:1", str(files[2]), str(keys / "tls.pem"), str(key))
        self.config = replace(self.board.config, bundle=None, broker=broker, profile="raspberry-pi-5")
        self.core: Core | None = None

    def start(self) -> Core:
        """The agent, from what is on its disk."""
        setup = prepare(self.config)
        transport = MemoryTransport(self.network, NAME, setup.voice.will())
        self.core = Core(setup, transport, HereLink(), self.clock)
        self.core.start()
        return self.core

    def end(self) -> None:
        """The agent ends by itself."""
        assert self.core is not None
        self.core.close()
        assert self.core.setup.lock is not None
        self.core.setup.lock.close()

    def until(self, true: Callable[[], bool]) -> None:
        """Let both sides work; a thread fetches meanwhile."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            self.network.pump()
            assert self.core is not None
            self.core.turn()
            self.network.pump()
            if true():
                return
            time.sleep(0.01)
        raise AssertionError(self.ask("bundle show"))

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        return answer(self.hub, {"request": request, **fields})

    def add(self, name: str, **wanted: Any) -> str:
        """A bundle that the hub takes in."""
        found = golden_bundle(self.folder / name, self.board.publisher, **wanted)
        self.ask("add", folder=str(self.folder / name))
        return found

    def renew(self, bundle: str) -> Core:
        """Assign a bundle and let the agent begin anew with it."""
        assert self.core is not None
        self.ask("bundle assign", bundle=bundle, devices=[NAME])
        self.until(lambda: self.core is not None and self.core.again)
        self.end()
        return self.start()

    def fetched(self) -> dict[str, int]:
        """Bytes that the hub sent of each file."""
        found: dict[str, int] = {}
        for fetch in list(self.hub.bundles.fetches):
            found[fetch.file] = found.get(fetch.file, 0) + fetch.bytes
        return found

    def state(self) -> str:
        """What the hub shows of the board."""
        return str(self.ask("bundle show")["devices"][0]["state"])

    def say(self, message: Any, model: str) -> None:
        """What somebody who recorded the hub's messages says again."""
        topic = topic_of(FLEET, model, "down", message.TYPE, NAME)
        self.hub.transport.publish(topic, seal(hub_key(self.board), m.encode(message)))


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A hub and a bare board."""
    made = Farm(tmp_path)
    yield made
    made.web.close()


def test_a_board_without_a_bundle_gets_one_and_then_only_what_it_lacks(farm: Farm) -> None:
    """It says hello without one, fetches, proves and begins anew; of the next bundle it fetches the new files alone."""
    first = farm.add("one")
    core = farm.start()
    assert (core.setup.bundle, core.setup.model, core.setup.jobs) == ("", NO_MODEL, ())
    farm.until(lambda: farm.hub.home.ledger.devices()[0]["hello"] is not None)
    core = farm.renew(first)
    assert core.setup.bundle == first
    assert "train" in core.setup.jobs
    farm.until(lambda: farm.state() == "runs it")
    manifest = parse_manifest((farm.folder / "one" / MANIFEST).read_bytes())
    assert farm.fetched() == {f.sha256: f.bytes for f in manifest.files}

    before = farm.fetched()
    second = farm.add("two", seed=1)
    core = farm.renew(second)
    assert core.setup.bundle == second
    other = parse_manifest((farm.folder / "two" / MANIFEST).read_bytes())
    new = {f.sha256: f.bytes for f in other.files if f.sha256 not in before}
    assert 0 < len(new) < len(other.files)
    assert farm.fetched() == {**before, **new}
    assert {p.name for p in core.setup.shelf.bundles.iterdir()} == {first, second}


def test_an_older_assignment_does_nothing(farm: Farm) -> None:
    """A recorded `bundle` message of a lower or equal sequence changes nothing, also after a start anew."""
    first = farm.add("one")
    farm.start()
    core = farm.renew(first)
    old = core.setup.shelf.kept.seen
    assert old is not None
    second = farm.add("two", seed=1)
    core = farm.renew(second)
    kept = core.setup.shelf.kept
    for again in (old, replace(kept.seen, bundle=first)):  # type: ignore[type-var]  # there is one
        farm.say(again, core.setup.model)
        farm.until(lambda: farm.state() == "runs it")
        assert core.setup.shelf.kept == kept
        assert not core.again


def test_a_bundle_that_computes_something_else_is_not_taken(farm: Farm) -> None:
    """The golden inference fails: the one before goes on, the hub shows why, and a later assignment may try again."""
    first = farm.add("one")
    farm.start()
    core = farm.renew(first)
    wrong = farm.add("wrong", seed=2, golden_off=0.5)
    farm.ask("bundle assign", bundle=wrong, devices=[NAME])
    farm.until(lambda: "golden value" in farm.state())
    assert not core.again
    assert core.setup.shelf.kept.current == first
    farm.end()
    assert farm.start().setup.bundle == first


def test_a_bundle_that_is_not_healthy_is_gone_back_from(farm: Farm) -> None:
    """Starts that do not last a minute are counted: after three the bundle before runs, and the hub shows why."""
    first = farm.add("one")
    farm.start()
    farm.renew(first)
    core = farm.renew(farm.add("two", seed=1))
    second = core.setup.bundle
    for _ in range(2):
        farm.clock.at += 59.0
        core.turn()
        farm.end()
        core = farm.start()
        assert core.setup.bundle == second
    farm.end()
    core = farm.start()
    assert core.setup.bundle == first
    farm.until(lambda: "was not healthy in 3 starts" in farm.state())

    core = farm.renew(second)  # named again
    farm.until(lambda: core.setup.shelf.on_trial)
    farm.clock.at += 60.0
    farm.until(lambda: not core.setup.shelf.on_trial)
    for _ in range(4):
        farm.end()
        assert farm.start().setup.bundle == second


def test_a_bundle_that_answers_wrong_in_use_is_gone_back_from(farm: Farm) -> None:
    """It was proved, and then its file changed: the proof of its first start fails, and the one before runs at once."""
    first = farm.add("one")
    farm.start()
    farm.renew(first)
    second = farm.add("two", seed=1)
    farm.ask("bundle assign", bundle=second, devices=[NAME])
    farm.until(lambda: farm.core is not None and farm.core.again)
    farm.end()
    core = farm.start()
    assert core.setup.shelf.on_trial
    graph = parse_manifest((farm.folder / "two" / MANIFEST).read_bytes()).segments[0].graphs[0].file
    flip(core.setup.shelf.folder(second) / graph)
    farm.until(lambda: core.again)
    farm.end()
    assert farm.start().setup.bundle == first
    farm.until(lambda: "does not answer in use" in farm.state())


def test_a_stop_by_somebody_is_no_accident(farm: Farm) -> None:
    """A start that ends while a bundle is on its way is counted, and forgotten where the agent was told to end."""
    core, stop = farm.start(), threading.Event()
    farm.until(lambda: farm.hub.home.ledger.devices()[0]["hello"] is not None)
    farm.web.close()  # it cannot come
    farm.ask("bundle assign", bundle=farm.add("one"), devices=[NAME])
    farm.until(lambda: core.setup.shelf.kept.fetches == 1)
    farm.end()
    core = farm.start()
    assert core.setup.shelf.kept.fetches == 2
    stop.set()
    core.run(stop)
    farm.end()
    assert Shelf(farm.config.state).kept.fetches == 0


def test_an_unknown_publisher_gets_no_file_asked_for(farm: Farm) -> None:
    """The signature of the manifest is looked at before any file of the bundle is fetched."""
    bundle = farm.add("one")
    row = farm.hub.home.ledger.bundle(bundle)
    assert row is not None
    from hub.store import schema as t

    forged = detached(new_key("publisher", "tester"), bytes(row["manifest"]))
    with farm.hub.home.ledger.transaction() as tx:
        tx.execute(t.bundles.update().values(signature=forged))
    core = farm.start()
    farm.until(lambda: farm.hub.home.ledger.devices()[0]["hello"] is not None)
    farm.ask("bundle assign", bundle=bundle, devices=[NAME])
    farm.until(lambda: "publisher key" in farm.state())
    assert farm.fetched() == {}
    assert not core.again


def test_changed_bytes_never_reach_the_runtime(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changed on disk keeps its bundle from the next start: only what lacks is fetched, before all else."""
    first = farm.add("one")
    farm.start()
    core = farm.renew(first)
    manifest = parse_manifest((core.setup.shelf.folder(first) / MANIFEST).read_bytes())
    graph = manifest.segments[0].graphs[0].file
    farm.end()
    flip(core.setup.shelf.folder(first) / graph)
    before, opened = farm.fetched(), list[str]()
    real = onnxruntime.InferenceSession

    def spy(path: Any, *arguments: Any, **named: Any) -> Any:
        wanted = {f.sha256 for f in manifest.files}
        opened.append(digest(Path(path).read_bytes()) if isinstance(path, str) else digest(bytes(path)))
        assert opened[-1] in wanted
        return real(path, *arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    core = farm.start()
    assert core.setup.bundle == ""
    farm.until(lambda: core.again)
    damaged = next(f for f in manifest.files if f.path == graph)
    assert farm.fetched() == {**before, damaged.sha256: before[damaged.sha256] + damaged.bytes}
    assert opened
    farm.end()
    assert farm.start().setup.bundle == first
