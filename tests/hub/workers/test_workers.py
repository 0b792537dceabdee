"""Workers take updates in, the hub counts them: once each, whoever is killed when."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub.store import registry
from hub.workers.patience import Patience
from hub.workers.worker import Worker
from tests.hub.world import World
from wire.chunks import cut
from wire.memory import MemoryTransport
from wire.messages import Commit, Sender

pytestmark = pytest.mark.postgresql
over_a_server = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@dataclass
class Helpers:
    """Workers of a world's hub."""

    world: World
    all: dict[str, Worker] = field(default_factory=dict)

    def start(self, name: str) -> Worker:
        """Another one."""
        home = registry.open_home(self.world.folder, reading=True)
        transport = MemoryTransport(self.world.network, name)
        worker = self.all[name] = Worker(home, transport, name, lambda: self.world.now_s)
        transport.start(worker.handle, lambda up: None)
        worker.tick()
        worker.listen()
        return worker

    def kill(self, name: str) -> None:
        """It vanishes with what it had in its hands."""
        worker = self.all.pop(name)
        worker.transport.close()
        self.world.network.endpoints.pop(name)
        worker.home.ledger.close()

    def settle(self, rounds: int = 80, each: Callable[[], None] = lambda: None) -> None:
        """Let messages and time flow until no round is open."""
        world = self.world
        for _ in range(rounds):
            world.network.pump()
            each()
            for worker in list(self.all.values()):
                worker.tick()
            world.now_s += 1
            world.hub.tick()
            for device in world.devices.values():
                device.work()
                if int(world.now_s) % 5 == 0:
                    device.retry()
            if not world.hub.open_rounds:
                break
        world.network.pump()

    @property
    def taken(self) -> dict[str, int]:
        """How many updates each took in."""
        return {name: sum(t.handing.taken for t in worker.tables.values()) for name, worker in self.all.items()}


@pytest.fixture
def helpers(make_world: Callable[..., World]) -> Iterator[Helpers]:
    """A world whose hub has two workers, and knows of them."""
    made = Helpers(make_world())
    for name in ("worker-1", "worker-2"):
        made.start(name)
    made.world.hub.tick()
    yield made
    for name in list(made.all):
        made.kill(name)


def phase(world: World, number: int) -> str:
    """Where a round stands."""
    state = world.hub.home.ledger.round(number)
    return "" if state is None else state.phase


def counted(world: World, number: int) -> list[str]:
    """Whose updates a round counts."""
    return [row["device"] for row in world.hub.home.ledger.updates(number)]


@over_a_server
def test_workers_take_in_and_the_hub_counts(helpers: Helpers) -> None:
    """A round goes through two workers: the hub counts what they leave in the ledger."""
    world = helpers.world
    patterns = world.network.endpoints["hub"].patterns
    assert not [p for p in patterns if p.endswith(("/+", "/chunk", "/begin", "/commit"))]

    number = world.ask("open", kind="train")["round"]
    helpers.settle()

    assert phase(world, number) == "complete"
    assert sum(helpers.taken.values()) >= 3
    assert counted(world, number)[:3] == ["barn", "coop", "mill"]
    assert world.hub.home.ledger.arrivals(10) == []
    for device in world.devices.values():
        assert {r.status for r in device.receipts} == {"accepted"}
        assert not device.outbox


@over_a_server
def test_pieces_of_one_update_that_go_to_different_workers_are_one_update(helpers: Helpers) -> None:
    """Chunks that are read before their beginning, or after their commit, are not asked for again."""
    world = helpers.world
    number = world.ask("open", kind="train")["round"]
    helpers.settle()

    asked = [topic for topic, _ in world.network.history if topic.endswith("/missing")]
    chunks = [topic for topic, _ in world.network.history if "/up/" in topic and topic.endswith("/chunk")]
    assert counted(world, number)[:3] == ["barn", "coop", "mill"]
    assert len(chunks) >= 3 * 2
    assert asked == []


@over_a_server
def test_workers_ask_for_what_is_announced(helpers: Helpers) -> None:
    """Each has one on its way at a time, and sees when another worker ended what it had asked for."""
    world = helpers.world
    for worker in helpers.all.values():
        for table in worker.tables.values():
            table.updates.turns.limit_bytes = 1
    for device in world.devices.values():
        device.announces = True
    number = world.ask("open", kind="train")["round"]
    helpers.settle(rounds=20)

    assert phase(world, number) == "complete"
    assert counted(world, number)[:3] == ["barn", "coop", "mill"]
    assert {r.status for d in world.devices.values() for r in d.receipts} == {"accepted"}


@over_a_server
@pytest.mark.parametrize("seed", range(3))
def test_killed_workers_lose_nothing(make_world: Callable[..., World], seed: int) -> None:
    """On a bad network, with workers killed and started at random moments, each update counts once."""
    helpers = Helpers(make_world(seed=seed))
    dice, world = random.Random(seed), helpers.world
    helpers.start("worker-0")
    names = iter(f"worker-{n}" for n in range(1, 1000))

    def strike() -> None:
        if dice.random() < 0.4 and helpers.all:
            helpers.kill(dice.choice(sorted(helpers.all)))
        if dice.random() < 0.5 and len(helpers.all) < 3:
            helpers.start(next(names))

    world.hub.tick()
    number = world.ask("open", kind="train", deadline_s=100_000)["round"]
    world.network.lose, world.network.repeat, world.network.reorder = 0.2, 0.2, 0.3
    helpers.settle(rounds=400, each=strike)
    for name in list(helpers.all):
        helpers.kill(name)

    assert phase(world, number) == "complete"
    rows = [(row["device"], row["kind"], row["lap"]) for row in world.hub.home.ledger.updates(number)]
    assert len(rows) == len(set(rows))
    assert {device for device, kind, _ in rows if kind == "adapter"} == {"barn", "coop", "mill"}


@over_a_server
def test_without_workers_the_hub_goes_on_by_itself(helpers: Helpers) -> None:
    """When the last worker is gone for a while the hub hears everything again, and finishes the round."""
    world = helpers.world
    for name in list(helpers.all):
        helpers.kill(name)
    number = world.ask("open", kind="train")["round"]
    with world.hub.home.ledger.transaction() as tx:  # as if time had passed, which the database's clock says
        tx.exec_driver_sql("UPDATE workers SET at_s = at_s - 60")
    world.settle()

    assert phase(world, number) == "complete"
    assert any(p.endswith("/up/+/+") for p in world.network.endpoints["hub"].patterns)


@over_a_server
def test_what_is_wrong_is_refused_through_workers_too(helpers: Helpers) -> None:
    """An update with wrong content gets its refusal, and the round does not wait for its device."""
    world = helpers.world
    world.devices["coop"].corrupt = True
    number = world.ask("open", kind="train")["round"]
    helpers.settle()

    assert phase(world, number) == "complete"
    assert {r.status for r in world.devices["coop"].receipts} >= {"refused"}
    assert "coop" not in [r["device"] for r in world.hub.home.ledger.updates(number, "adapter")]
    assert world.hub.home.ledger.arrivals(10) == []


@over_a_server
def test_a_round_that_a_worker_does_not_know_yet_is_left_alone(helpers: Helpers) -> None:
    """What another worker keeps of a round that was opened just now stays, however old this one's look at rounds is."""
    world = helpers.world
    for table in helpers.all["worker-2"].tables.values():
        assert not table.rounds.open  # looked a moment ago
    number = world.ask("open", kind="train")["round"]
    begun: list[Path] = []
    while not begun:
        assert world.network.pump(1)
        begun = list((world.folder / "partial").rglob("*.part"))
    for table in helpers.all["worker-2"].tables.values():
        table.look()

    assert [path for path in begun if not path.exists()] == []
    helpers.settle()
    assert phase(world, number) == "complete"


def test_who_waits_is_given_each_once() -> None:
    """Chunks come out when their beginning has come, commits when nothing moved for a while."""
    now = [0.0]
    patience = Patience(lambda: now[0])
    pieces = cut(bytes(3000), chunk_bytes=1024)
    for piece in pieces:
        patience.hold_chunk("barn", piece)
    assert list(patience.chunks(lambda device, update: False)) == []
    given = patience.chunks(lambda device, update: True)
    assert next(given) == ("barn", pieces[0])
    del given  # taking it failed
    assert list(patience.chunks(lambda device, update: True)) == [("barn", piece) for piece in pieces[1:]]

    commit = Commit(Sender("barn", "boot", 1), pieces[0].blob)
    patience.hold_commit(commit, announces=False)
    assert list(patience.commits(lambda device, update: 0)) == []
    now[0] += 1.5
    assert list(patience.commits(lambda device, update: 2)) == []  # two more chunks are here
    now[0] += 1.5
    assert list(patience.commits(lambda device, update: 2)) == [commit]
    assert list(patience.commits(lambda device, update: 2)) == []

    patience.hold_commit(commit, announces=True)
    now[0] += 0.2
    assert list(patience.commits(lambda device, update: 0)) == [commit]
    patience.hold_chunk("barn", pieces[0])
    now[0] += 3
    assert list(patience.chunks(lambda device, update: False)) == []
    assert list(patience.chunks(lambda device, update: True)) == []
