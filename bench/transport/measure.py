"""One size of update over one kind of broker: the hub and the floor, turn by turn."""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.hub_boards import FLEET
from bench.load import hub as h
from bench.load.brokers import as_board, bare, identities, secured
from bench.load.crowd import Crowd
from bench.load.processes import SERVER_CORE, child, cpu_s, first_line, pss_bytes
from bench.load.sampler import read_series, sampled
from bench.transport.floor import Sender

ANSWER_S = 240.0
ALONE = 20  # boards that are measured one after the other, without a queue


@dataclass(frozen=True)
class Turn:
    """What one turn of all boards took; times are of single updates, cpu of all of them."""

    updates: int
    wall_s: float
    server_cpu_s: float
    broker_cpu_s: float
    load_cpu_s: float
    p50_s: float
    p95_s: float
    server_pss_bytes: int
    broker_pss_bytes: int
    asked_again: int


class Client(Protocol):
    """A board, or who stands for it at the floor."""

    began_s: float
    ended_s: float
    prepared: bytes


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 95)
    (2.0, 3.0)
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def turn(
    crowd: Crowd,
    clients: Sequence[Client],
    send: Callable[[Any], None],
    pids: tuple[int, int],
    series: Path,
    *,
    at_once: bool,
) -> Turn:
    """Let all of them send, together or one after the other, and wait for every answer."""
    before, own = [cpu_s(pid) for pid in pids], time.process_time()
    again = sum(getattr(c, "asked_again", 0) for c in clients)
    began, began_mono = time.perf_counter(), time.monotonic()
    for batch in [list(clients)] if at_once else [[c] for c in clients]:
        for client in batch:
            send(client)
            crowd.turn(0.0)
        crowd.until(lambda batch=batch: all(c.ended_s for c in batch), ANSWER_S, "every answer")  # type: ignore[misc]  # bound on purpose
    wall = time.perf_counter() - began
    taken = [c.ended_s - c.began_s for c in clients]
    after, own = [cpu_s(pid) for pid in pids], time.process_time() - own
    time.sleep(0.1)  # one look more of the sampler
    seen, now = read_series(series), time.monotonic()
    server_pss, broker_pss = (max(seen.peak_of(pid, began_mono, now), pss_bytes(pid)) for pid in pids)
    return Turn(
        len(clients),
        wall,
        after[0] - before[0],
        after[1] - before[1],
        own,
        statistics.median(taken),
        percentile(taken, 95),
        server_pss,
        broker_pss,
        sum(getattr(c, "asked_again", 0) for c in clients) - again,
    )


class HubSide:
    """The hub with its boards; a round stays open because one more board never answers."""

    def __init__(self, folder: Path, shape: h.Shape, count: int, hub: h.Running, keys: dict[str, Any]) -> None:
        self.hub, self.shape, self.crowd, self.seed = hub, shape, Crowd(), secrets.randbelow(1 << 30)
        boot = f"{os.getpid()}-{time.monotonic_ns()}"
        own = folder / "hub"
        self.all: list[h.Board] = [
            h.board(name, key, own, shape, self.crowd.member(as_board(hub.broker, own, name), name), boot)
            for name, key in keys.items()
        ]
        h.connect(self.crowd, self.all)
        self.boards = self.all[:count]
        self.pids = hub.hub_pid, hub.broker_pid

    def turn(self, series: Path, *, at_once: bool) -> Turn:
        """A round up to the last receipt."""
        number = h.open_round(self.hub, len(self.all), self.crowd)
        h.asked(self.crowd, self.boards)
        chosen = self.boards if at_once else self.boards[:ALONE]
        for one in chosen:
            self.seed += 1
            job = next(iter(one.waiting.values()))
            one.prepared = self.shape.update(job.versions[0], self.seed)  # other bytes every time: stored anew
        try:
            return turn(self.crowd, chosen, _release, self.pids, series, at_once=at_once)
        finally:
            for one in self.all:
                one.jobs_held = True
                one.waiting.clear()
            self.hub.ask(request="stop", round=number)


def _release(one: h.Board) -> None:
    one.jobs_held = False
    one.work()


class FloorSide:
    """paho and the broker, and nothing else."""

    def __init__(self, folder: Path, names: list[str], size: int, at: Any, pids: tuple[int, int]) -> None:
        self.crowd, self.size, self.pids = Crowd(), size, pids
        self.senders = [Sender(name, self.crowd.member(as_board(at, folder, name), name)) for name in names]
        for one in self.senders:
            one.start()
        self.crowd.until(lambda: all(s.member.subscribed for s in self.senders), h.START_S, "every sender connected")

    def turn(self, series: Path, *, at_once: bool) -> Turn:
        """Everybody sends so many bytes."""
        chosen = self.senders if at_once else self.senders[:ALONE]
        for one in chosen:
            one.prepared = os.urandom(self.size)
        return turn(self.crowd, chosen, Sender.send, self.pids, series, at_once=at_once)


@contextmanager
def hub_side(folder: Path, shape: h.Shape, count: int, broker: str, series: Path) -> Iterator[HubSide]:
    """Start the hub and let its boards in."""
    folder.mkdir()
    keys = h.make(folder, shape, count + 1)
    with ExitStack() as stack:
        outside = None if broker == "TLS" else stack.enter_context(bare(folder, SERVER_CORE))
        hub = stack.enter_context(h.running(folder / "hub", outside))
        stack.enter_context(sampled(series, hub.hub_pid, hub.broker_pid))
        side = HubSide(folder, shape, count, hub, keys)
        stack.callback(side.crowd.close)
        yield side


@contextmanager
def floor_side(folder: Path, size: int, count: int, broker: str, series: Path) -> Iterator[FloorSide]:
    """Start a broker of the same configuration, its subscriber, and the senders."""
    folder.mkdir()
    names = [f"board-{index}" for index in range(count)]
    with ExitStack() as stack:
        if broker == "TLS":
            identities(folder, FLEET, names)
            at, broker_pid = stack.enter_context(secured(folder, FLEET, names, SERVER_CORE))
        else:
            at, broker_pid = stack.enter_context(bare(folder, SERVER_CORE))
        command = [sys.executable, "-m", "bench.transport.floor", h.url(at), str(folder), str(size)]
        subscriber = stack.enter_context(child(command, SERVER_CORE, stdout=-1))
        first_line(subscriber)
        stack.enter_context(sampled(series, subscriber.pid, broker_pid))
        side = FloorSide(folder, names, size, at, (subscriber.pid, broker_pid))
        stack.callback(side.crowd.close)
        yield side


def cell(folder: Path, shape: h.Shape, count: int, broker: str, repeats: int, *, alone: bool = True) -> dict[str, Any]:
    """Everything about one size over one broker: turn by turn, after one of each that does not count."""
    size = len(shape.update("0" * 64, 0))
    series = folder / "hub.series", folder / "floor.series"
    with (
        hub_side(folder / "hub", shape, count, broker, series[0]) as ours,
        floor_side(folder / "floor", size, count, broker, series[1]) as floor,
    ):
        sides = {"hub": (ours, series[0]), "floor": (floor, series[1])}
        found: dict[str, list[dict[str, Any]]] = {f"{s}{k}": [] for s in sides for k in ("", " alone")}
        for repeat in range(repeats + 1):
            for name, (side, path) in sides.items():
                for kind in ("", " alone") if alone else ("",):
                    made = side.turn(path, at_once=not kind)  # type: ignore[attr-defined]  # both sides have it
                    if repeat:
                        found[f"{name}{kind}"].append(asdict(made))
    return {"update_bytes": size, "clients": count, "broker": broker, "turns": {k: v for k, v in found.items() if v}}
