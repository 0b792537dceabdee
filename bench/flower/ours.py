"""One cell of the hub: as users run it, with mosquitto, TLS, client certificates, an access list, a ledger on disk."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from bench.flower.proxy import counting
from bench.flower.rounds import Round, summed
from bench.hub_boards import MODEL, SCALE
from bench.load import hub as h
from bench.load.brokers import as_board
from bench.load.crowd import Crowd, through
from bench.load.sampler import read_series, sampled
from wire import messages as m
from wire.adapter import Adapter, to_bytes
from wire.kinds.lora import Lora

AGGREGATION = 'method = "mean"'
AGAIN_S = 5.0  # a board that hears nothing says its beginning and its commit again
POOL = np.random.default_rng(7).standard_normal(1 << 21).astype(np.float32)


class Quick(h.Board):
    """A board that answers at once, with numbers that nobody else has."""

    shape: h.Shape
    heard: dict[int, float]

    def payload(self, job: m.Job) -> bytes:
        """An adapter of the version that the job names."""
        rank, side = self.shape.rank, self.shape.side
        draw = np.random.default_rng([job.round, *self.name.encode()])
        size = rank * side
        at = int(draw.integers(len(POOL) - 2 * self.shape.slots * size))
        numbers = POOL[at : at + 2 * self.shape.slots * size] + np.float32(draw.standard_normal())
        lora = {}
        for index, name in enumerate(self.shape.table):
            a, b = (numbers[(2 * index + n) * size : (2 * index + n + 1) * size] for n in (0, 1))
            lora[name] = Lora(a.reshape(side, rank), b.reshape(rank, side), SCALE)
        return to_bytes(Adapter(MODEL, job.versions[0], lora))

    def work(self) -> None:
        """Also note the first that is heard of every version."""
        for version in self.versions.values():
            self.heard.setdefault(version.round, time.monotonic())
        super().work()


def cell(folder: Path, shape: h.Shape, nodes: int, rounds: int, limit_s: float, *, count: bool) -> dict[str, Any]:
    """Rounds of training; the first does not count.

    Raises:
        TimeoutError: they did not end in time.
    """
    keys, series = h.make(folder, shape, nodes, AGGREGATION), folder / "series"
    own, found = folder / "hub", list[Round]()
    with ExitStack() as stack:
        hub = stack.enter_context(h.running(own))
        bytes_of = stack.enter_context(counting(hub.broker.port)) if count else None
        at = hub.broker if bytes_of is None else through(hub.broker, bytes_of.port)
        stack.enter_context(sampled(series, hub.hub_pid))
        crowd, heard = Crowd(), dict[int, float]()
        stack.callback(crowd.close)
        boards = [
            _board(name, key, own, shape, crowd.member(as_board(at, own, name), name)) for name, key in keys.items()
        ]
        for one in boards:
            one.heard = heard
        h.connect(crowd, boards)
        ends, cpu = time.monotonic() + limit_s, time.process_time()
        while len(found) < rounds and time.monotonic() < ends:
            before, began = (0, 0) if bytes_of is None else bytes_of.counted, time.monotonic()
            number = h.open_round(hub, nodes, crowd)
            _turn(crowd, boards, lambda number=number: number in heard, ends)
            now = (0, 0) if bytes_of is None else bytes_of.counted
            found.append(Round(began, heard[number], nodes, now[0] - before[0], now[1] - before[1]))
        cpu = time.process_time() - cpu
        time.sleep(0.2)
    told = summed(found[1:] or found, read_series(series), nodes, cpu / max(1, len(found)))
    return {**told, "asked_again": sum(one.asked_again for one in boards)}


def _board(name: str, key: Any, own: Path, shape: h.Shape, member: Any) -> Quick:
    made = h.board(name, key, own, shape, member, f"{os.getpid()}", kind=Quick)
    made.jobs_held, made.shape = False, shape
    return made


def _turn(crowd: Crowd, boards: list[Quick], true: Any, ends: float) -> None:
    """Let them work; who hears nothing for a while says it again."""
    again = time.monotonic() + AGAIN_S
    while not true():
        if time.monotonic() > ends:
            raise TimeoutError("expected a version of the round in time, found none")
        crowd.turn()
        if time.monotonic() > again:
            again = time.monotonic() + AGAIN_S
            for one in boards:
                one.retry()
