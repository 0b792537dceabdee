"""What training costs a local request: `python -m bench.requests [--model FOLDER] [--turns N] [--requests N]`.

An agent with one encoder (all-MiniLM-L6-v2 where its package is installed, else random weights of its shape; int8, 64
tokens, rank 8) serves a version and answers one text after another over its Unix socket, one at a time, with a pause
between two. In turns: with nothing else to do; while its worker trains and is paused for each request, as agents do;
and while it trains and is not (nice 5 alone). The bar: at the median and at the 95th percentile, at most 1.2 times the
idle agent of the same turn, as the median over turns. Beside it: the steps of training that went on meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tests.edge.hub as scripted
from bench.slots import minilm, random_minilm
from bench.trunk import BUDGET_BYTES, LABELS, RANK, SEQUENCE, sentences
from console.progress import progress
from console.table import table
from devices.plan import Board as Plan
from edge.cli import NICE
from edge.config import BrokerTable, Config
from edge.idle.settings import ALWAYS
from edge.link import WorkerLink
from edge.local.api import opened
from edge.local.asking import ASKED
from edge.local.table import Local
from export.pipeline import ExportRequest, export_model, steps_of
from tests.edge.boards import Board, Farm
from wire.files import write_atomic
from wire.keys import PrivateKey, new_key, write_key
from wire.manifest import parse_manifest
from wire.memory import Network
from wire.messages import Job

NAME = "barn-1"
IDLE, PAUSED, BESIDE = "idle", "trains, is paused", "trains beside it"
WAYS = (IDLE, PAUSED, BESIDE)
BAR = 1.2
WARM = 3  # requests of a turn that do not count: caches are another way's
BETWEEN_S = 0.1
PATIENCE_S = 180.0


class Link(WorkerLink):
    """A worker that can be told not to heed requests."""

    heeds = True

    def hold(self, why: str) -> None:
        """As always, or not for a request."""
        if self.heeds or why != ASKED:
            super().hold(why)


@dataclass
class Agent:
    """An agent that runs in this process, its worker and the process that answers in theirs."""

    farm: Farm
    link: Link
    socket: Path
    version: str
    number: int = 0

    def until(self, true: Callable[[], Any]) -> None:
        """Wait for something."""
        ends_at = time.monotonic() + PATIENCE_S
        while not true():
            if time.monotonic() > ends_at:
                raise TimeoutError(f"the agent has not done it: {self.farm.hub.failed}")
            time.sleep(0.01)

    def done(self) -> float:
        """Steps of the job that goes on."""
        core = self.farm.core
        job = {} if core is None else core.status.jobs.get(f"train-{self.number}", {})
        return float(job.get("done") or 0)

    def train(self) -> Job:
        """Begin, and come back when steps are being made."""
        self.number += 1
        settings = {"steps": 100_000, "batch": 16, "learning_rate": 0.0}
        job = Job(NAME, f"train-{self.number}", "train", self.number, (self.version,), settings)
        self.farm.hub.ask(job)
        self.until(lambda: self.done() >= 1)
        return job


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What training costs a local request.")
    parser.add_argument("--model", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--cores", type=int, help="so many of this machine alone, as on a board that has no more")
    parser.add_argument("--out", type=Path, default=Path("build/bench/requests.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with running(work, str(options.model or minilm() or random_minilm(work)), options.cores) as agent:
            turns = [turn(agent, options.requests) for _ in range(options.turns)]
    rows = summary(turns)
    print(
        table(
            ["requests", "p50", "p95", "p50 to idle", "p95 to idle", "steps a second"], [list(r.values()) for r in rows]
        )
    )
    print(f"bar: {BAR} of both; cores {len(os.sched_getaffinity(0))}, load at the end {os.getloadavg()[0]:.1f}")
    report = {"bar": BAR, "rows": rows, "turns": turns, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()}
    write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    return 0


def turn(agent: Agent, requests: int) -> dict[str, dict[str, float]]:
    """Each way once: seconds at the median and the 95th percentile, and steps a second."""
    found = {IDLE: measured(agent, requests)}
    for way in (PAUSED, BESIDE):
        agent.link.heeds = way == PAUSED
        job = agent.train()
        found[way] = measured(agent, requests)
        agent.farm.hub.cancel(job)
        agent.until(lambda: not agent.link.busy)
    return found


def measured(agent: Agent, requests: int) -> dict[str, float]:
    """Requests over one connection, with a pause between two."""
    texts, seconds, began, steps = sentences(requests + WARM), list[float](), time.monotonic(), agent.done()
    client = http.client.HTTPConnection("agent")
    client.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.sock.connect(str(agent.socket))
    for at, text in enumerate(texts):
        body = json.dumps({"text": text}).encode()
        started = time.perf_counter()
        client.request("POST", "/v1/infer", body)
        answer = client.getresponse()
        answer.read()
        took = time.perf_counter() - started
        if answer.status != 200:
            raise RuntimeError(f"a request was answered {answer.status}")
        if at >= WARM:
            seconds.append(took)
        time.sleep(BETWEEN_S)
    client.close()
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    rate = max(0.0, agent.done() - steps) / (time.monotonic() - began)
    return {"p50": statistics.median(seconds), "p95": cuts[18], "steps": rate}


def summary(turns: list[dict[str, dict[str, float]]]) -> list[dict[str, str]]:
    """A row per way: medians over turns, ratios within turns."""
    out = []
    for way in WAYS:
        row = {"way": way}
        for cut in ("p50", "p95"):
            row[cut] = f"{1000 * statistics.median(t[way][cut] for t in turns):.1f} ms"
        for cut in ("p50", "p95"):
            row[f"{cut} to idle"] = f"{statistics.median(t[way][cut] / t[IDLE][cut] for t in turns):.2f}"
        row["steps"] = "" if way == IDLE else f"{statistics.median(t[way]['steps'] for t in turns):.2f}"
        out.append(row)
    return out


@contextmanager
def running(work: Path, model: str, cores: int | None) -> Iterator[Agent]:
    """An agent that serves a version."""
    board = made(work, model)
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    vars(scripted)["MODEL"] = board.manifest.model.id  # the hub of the tests knows one model by name
    link = Link(None, 60.0, 1, nice=NICE)
    farm = Farm(board, Network(), link)
    core, stop = farm.start(), threading.Event()
    api = opened(core)
    if api is None or core.setup.lock is None:
        raise RuntimeError("expected a local API, found none")

    def go_on() -> None:
        while not stop.is_set():
            farm.run(seconds=1, nag=False)
            time.sleep(0.02)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        version = farm.hub.publish_version(board.manifest, 1, rank=RANK)
        farm.hub.release(version, 1, 1)
        agent = Agent(farm, link, work / "s", version)
        agent.until(lambda: core.store.released.served is not None)
        yield agent
    finally:
        stop.set()
        thread.join()
        api.close()
        link.close()
        core.setup.lock.close()


def made(work: Path, model: str) -> Board:
    """The encoder as a bundle for a board, with rows to train on."""
    publisher = new_key("publisher", "bench")
    boards = (Plan("board", BUDGET_BYTES, "train", "int8", RANK),)
    request = ExportRequest(model, "feature-extraction", LABELS, boards, publisher, work / "out", sequence=SEQUENCE)
    with progress("exporting", steps_of(request)) as bar:
        bundle = export_model(request, bar)[0].folder
    rows = [{"text": text, "label": LABELS[i % len(LABELS)]} for i, text in enumerate(sentences(64))]
    (work / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys: list[PrivateKey] = [new_key("device", NAME), new_key("hub", "hub"), publisher]
    for key in keys:
        write_key(key, work / "keys")
    config = Config(
        NAME, scripted.FLEET, bundle, work / "state", work / "data.jsonl", 0.1, 1, 60.0, None,
        BrokerTable("mqtt://127.0.0.1:1"), work / "keys" / f"{NAME}.key", (work / "keys/hub.pub",),
        (work / "keys/bench.pub",), idle=replace(ALWAYS, requests_s=0.0), local=Local(socket=work / "s"),
    )  # fmt: skip
    return Board(work, config, parse_manifest((bundle / "manifest.json").read_bytes()), keys[0], publisher)


if __name__ == "__main__":
    raise SystemExit(main())
