"""A small agent that renews its bundle: the real core, shelf, thread that fetches and worker; the hub is a folder.

What is small: the broker is in memory and says the hub's one message again at each start. Faults strike at functions of
the real thing, before and after they run. Started with `python -m tests.edge.renewal.program`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from console.errors import EdgequiltError
from edge import fetching, install, notice, renewing, shelf
from edge.config import BrokerTable, Config
from edge.core import Core
from edge.link import WorkerLink
from edge.setup import prepare
from edge.shelf import Shelf
from tests.edge.renewal.struck import struck
from tests.edge.slots.program import SETTLED, Shop
from tests.edge.slots.strike import StateFuse
from wire.bundle import MANIFEST
from wire.envelope import Trust, seal, unseal
from wire.keys import read_private_key, read_public_key
from wire.manifest import parse_manifest
from wire.memory import MemoryTransport, Network
from wire.messages import Assignment, Failed, decode, encode
from wire.topics import hub_subscriptions, parse_topic, topic_of

NAME, FLEET = "barn-1", "farm"  # as the boards of the tests have it; their module takes longer than all of this
STEADY_S, PROVE_S, SILENT_S, FIRST_S = 0.05, 15.0, 4.0, 0.02
START_S = 4.0  # that the watchdog waits for a start
LONGEST_S = 60.0  # of a life that comes to no end
SAID_EVERY_S = 0.3
MOST_FETCHES = 3


class Hub:
    """Says its one message, and writes down what failed."""

    def __init__(self, root: Path, network: Network, model: str) -> None:
        self._root, self._model = root, model
        self._key = read_private_key(root / "keys" / "hub.key")
        self._trust = Trust([read_public_key(root / "keys" / f"{NAME}.pub", "device")])
        self._line, self._said_at = MemoryTransport(network, "hub"), -1e9
        self._line.start(self._hears, lambda up: None)
        for pattern in hub_subscriptions(FLEET, model):
            self._line.subscribe(pattern)

    def says(self) -> None:
        """The assignment, now and then, as at every hello."""
        if time.monotonic() - self._said_at < SAID_EVERY_S:
            return
        self._said_at = time.monotonic()
        order = Assignment(NAME, 1, self._model, (self._root / "order").read_text(), ("hub:1",))
        self._line.publish(topic_of(FLEET, self._model, "down", Assignment.TYPE, NAME), seal(self._key, encode(order)))

    def _hears(self, topic: str, payload: bytes) -> None:
        address = parse_topic(topic)
        if address is not None and address.topic.message is Failed:
            body, _ = unseal(payload, "device", self._trust, "a failed message")
            told = decode(body, Failed)
            with (self._root / "told").open("a") as book:
                book.write(f"{told.job}: {told.reason}\n")


def main() -> int:
    """One life of the agent; the exit code."""
    root = Path(os.environ["EDGEQUILT_HOME"])
    _strike_at(StateFuse(root / "fault.json"))
    renewing.STEADY_S, renewing.PROVE_S, renewing.SILENT_S, fetching.FIRST_S = STEADY_S, PROVE_S, SILENT_S, FIRST_S
    shelf.MOST_FETCHES, notice.PATIENCE_S = MOST_FETCHES, START_S
    fetching.hub_of = lambda config, order: Shop(root / "shop")  # type: ignore[assignment,return-value]
    told = notice.Notice()
    told.ready()
    told.patient()
    try:
        return _lives(root, told)
    except EdgequiltError as error:
        print(f"edgequilt: {error}", file=sys.stderr)
        return error.exit_code


def _lives(root: Path, told: notice.Notice) -> int:
    config, network = _config(root), Network()
    setup = prepare(config)
    command = [sys.executable, "-m", "tests.edge.renewal.worker", str(root / "fault.json")]
    link, hub = WorkerLink(setup.budget_bytes, 20.0, 1, command), Hub(root, network, setup.model)
    core = Core(setup, MemoryTransport(network, NAME, setup.voice.will()), link)
    if (root / "sick").exists() and setup.shelf.on_trial:
        _damage(Path(setup.place.bundle))
    core.start()
    told.strict()
    ends = time.monotonic() + LONGEST_S
    try:
        while not core.again and time.monotonic() < ends:
            hub.says()
            told.beat(lambda: True)
            network.pump()
            core.turn()
            network.pump()
            if _settled(core):
                return SETTLED
            time.sleep(0.01)
    finally:
        core.close()
    return 0


def _settled(core: Core) -> bool:
    """Whether the one order was seen, and is followed or given up, and the hub knows."""
    kept, way = core.setup.shelf.kept, core._renewing
    waits = core.setup.shelf.wanted(core.setup.bundle) is not None or core.setup.shelf.on_trial or kept.untold
    return kept.seen is not None and not waits and not way.proving and not way._own


def _damage(folder: Path) -> None:
    """What a bad disk does to a bundle after it was proved; no other bundle has this file."""
    graph = parse_manifest((folder / MANIFEST).read_bytes()).segments[0].graphs[0].file
    data = bytearray((folder / graph).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / graph).unlink()
    (folder / graph).write_bytes(data)


def _strike_at(fuse: StateFuse) -> None:
    """Have the fuse told of each part of the way."""
    on_trial = lambda own, *given: own.on_trial  # noqa: E731
    known = lambda own, *given: own.kept.seen is not None  # noqa: E731
    submit, ours = WorkerLink.submit, lambda link, request, *more: request.id.startswith(renewing.ORDER)
    WorkerLink.submit = struck(fuse, "submit", submit, ours)  # type: ignore[method-assign]
    Shelf.follow = struck(fuse, "follow", Shelf.follow)  # type: ignore[method-assign]
    install._manifest = struck(fuse, "manifest", install._manifest)
    install.fetch = struck(fuse, "fetch", install.fetch)
    Shelf.switch = struck(fuse, "switch", Shelf.switch)  # type: ignore[method-assign]
    Shelf.begin = struck(fuse, "begin", Shelf.begin, on_trial)  # type: ignore[method-assign]
    Shelf.keep = struck(fuse, "keep", Shelf.keep)  # type: ignore[method-assign]
    Shelf.go_back = struck(fuse, "back", Shelf.go_back)  # type: ignore[method-assign]
    Shelf.give_up = struck(fuse, "give up", Shelf.give_up)  # type: ignore[method-assign]
    Shelf.collect = struck(fuse, "collect", Shelf.collect, known)  # type: ignore[method-assign]
    answer = renewing.Renewing._own_answer
    renewing.Renewing._own_answer = struck(fuse, "answer", answer)  # type: ignore[method-assign]


def _config(root: Path) -> Config:
    keys, state = root / "keys", root / "state"
    files = (keys / f"{NAME}.key", (keys / "hub.pub",), (next(keys.glob("tester.pub")),))
    return Config(
        NAME, FLEET, None, state, root / "data.jsonl", 0.25, 1, 20.0, None, BrokerTable("mqtt://127.0.0.1:1"), *files
    )


if __name__ == "__main__":
    sys.exit(main())
