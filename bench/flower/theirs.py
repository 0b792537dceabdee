"""One cell of Flower: SuperLink with TLS, registered nodes and a database on disk; it starts what else it needs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.flower.proxy import counting
from bench.flower.rounds import Round, summed
from bench.load.hub import Shape
from bench.load.processes import CLIENT_CORE, ROOT, SERVER_CORE, child, cpu_s, first_line, pinned, tree
from bench.load.sampler import read_series, sampled
from hub import authority
from hub.brokers.mosquitto import _free_port, _listens

HERE = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / "build" / "flower"
START_S = 60.0


@dataclass(frozen=True)
class Arm:
    """How Flower is told to work.

    Attributes:
        packed: the adapter is one array.
        poll_s: the longest sleep of its loops; None as it comes.
        synchronous: SQLite's; FULL is what the hub has, NORMAL is what Flower comes with; empty: nothing is on disk.
        real: SuperNodes with processes of their own instead of nodes in one.
    """

    packed: bool = False
    poll_s: float | None = None
    synchronous: str = "FULL"
    real: bool = False


ARMS = {
    "default": Arm(),
    "packed": Arm(packed=True),
    "tuned polls": Arm(poll_s=0.1),
    "packed, tuned polls": Arm(packed=True, poll_s=0.1),
    "packed, tuned polls, synchronous=NORMAL": Arm(packed=True, poll_s=0.1, synchronous="NORMAL"),
    "packed, tuned polls, nothing on disk": Arm(packed=True, poll_s=0.1, synchronous=""),
    "real SuperNodes": Arm(real=True),
}
BEST = "packed, tuned polls"  # of those that keep what the hub keeps
TIMED = tuple(name for name, arm in ARMS.items() if not arm.real)
SYNCED = tuple(name for name in TIMED if ARMS[name].synchronous == "FULL")


def cell(
    folder: Path, arm: Arm, shape: Shape, nodes: int, rounds: int, limit_s: float, *, count: bool
) -> dict[str, Any]:
    """Rounds of one arm; the first does not count.

    Raises:
        RuntimeError: something did not start.
        TimeoutError: no round ended in time.
    """
    out, series = folder / "rounds.jsonl", folder / "series"
    out.touch()
    told = _told(folder, arm)
    ca = authority.create("flower", folder)
    authority.issue_server(ca, ["127.0.0.1", "localhost"], folder, "server")
    (folder / "state").mkdir()
    port = _free_port("127.0.0.1")
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        link = stack.enter_context(child(_superlink(folder, arm, port), SERVER_CORE, env=told, stdout=log, stderr=log))
        _until(lambda: _listens("127.0.0.1", port), link, folder)
        bytes_of = stack.enter_context(counting(port)) if count else None
        at = port if bytes_of is None else bytes_of.port
        stack.enter_context(sampled(series, link.pid))
        clients = stack.enter_context(_nodes(folder, arm, shape, nodes, at, told))
        _run(folder, arm, shape, nodes, rounds, out, port, told)
        began, own = time.monotonic(), sum(map(cpu_s, tree(clients)))
        found = _wait(out, rounds, link, folder, began + limit_s, bytes_of)
        own = sum(map(cpu_s, tree(clients))) - own
        time.sleep(0.2)
    return summed(found[1:] or found, read_series(series), nodes, own / max(1, len(found)))


def _told(folder: Path, arm: Arm) -> dict[str, str]:
    """The environment of all of Flower's processes: no telemetry, no question for newer versions."""
    path = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    told = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": f"{HERE / 'patches'}{os.pathsep}{ROOT}",
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "BENCH_SYNCHRONOUS": arm.synchronous or "OFF",
    }
    if arm.poll_s is not None:
        told |= {"BENCH_POLL_S": str(arm.poll_s), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(arm.poll_s)}
    return told


def _superlink(folder: Path, arm: Arm, port: int) -> list[str]:
    certificates = ["--ssl-ca-certfile", "ca.pem", "--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key"]
    files = [str(folder / word) if word.endswith((".pem", ".key")) else word for word in certificates]
    state = ["--database", str(folder / "state" / "flower.db")] if arm.synchronous else []
    place = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--disable-runtime-dependency-installation",
        "--enable-supernode-auth",
    ]
    return [str(ENVIRONMENT / "bin" / "flower-superlink"), *files, *state, *place]


@contextmanager
def _nodes(folder: Path, arm: Arm, shape: Shape, count: int, port: int, told: dict[str, str]) -> Iterator[int]:
    """Nodes that are connected; yields the process that they are in or below."""
    python = str(ENVIRONMENT / "bin" / "python")
    numbers = [shape.slots, shape.side, shape.rank, int(arm.packed)]
    script = "supernodes.py" if arm.real else "nodes.py"
    command = [python, str(HERE / script), f"127.0.0.1:{port}", str(folder / "ca.pem"), str(count), *map(str, numbers)]
    said = folder / "nodes.log"
    with (
        said.open("wb") as log,
        child(command, CLIENT_CORE, env=told, cwd=folder, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        if first_line(process).strip() != "ready":
            raise RuntimeError(f"expected nodes to connect, they say: {said.read_text()[-2000:]}")
        yield process.pid


def _run(
    folder: Path, arm: Arm, shape: Shape, nodes: int, rounds: int, out: Path, port: int, told: dict[str, str]
) -> None:
    """`flwr run`."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    ca = folder / "ca.pem"
    lines = ["[superlink]", 'default = "bench"', "[superlink.bench]"]
    lines += [f'address = "127.0.0.1:{port}"', f'root-certificates = "{ca}"']
    (home / "config.toml").write_text("\n".join(lines) + "\n")
    config = (
        f"nodes={nodes} rounds={rounds} slots={shape.slots} side={shape.side} rank={shape.rank} "
        f'packed={str(arm.packed).lower()} out="{out}"'
    )
    command = [str(ENVIRONMENT / "bin" / "flwr"), "run", str(HERE / "app"), "bench", "--run-config", config]
    ended = subprocess.run(
        [*pinned(CLIENT_CORE), *command],
        env=told,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"expected flwr to take the run, it says: {ended.stdout}{ended.stderr}")


def _wait(out: Path, rounds: int, link: subprocess.Popen[str], folder: Path, ends: float, bytes_of: Any) -> list[Round]:
    """The rounds that ended in time; bytes are noted as each ends.

    Raises:
        TimeoutError: none did.
        RuntimeError: SuperLink has ended.
    """
    found: list[Round] = []
    before = (0, 0) if bytes_of is None else bytes_of.counted
    while len(found) < rounds and time.monotonic() < ends and link.poll() is None:
        lines = out.read_text().splitlines()
        for line in lines[len(found) :]:
            told, now = json.loads(line), (0, 0) if bytes_of is None else bytes_of.counted
            found.append(Round(told["began"], told["ended"], told["updates"], now[0] - before[0], now[1] - before[1]))
            before = now
        time.sleep(0.05)
    if link.poll() is not None:
        raise RuntimeError(f"expected SuperLink to go on, it has ended; its log ends: {_tail(folder)}")
    if not found:
        raise TimeoutError("expected a round in time, found none")
    return found


def _until(true: Any, process: subprocess.Popen[str], folder: Path) -> None:
    ends = time.monotonic() + START_S
    while not true():
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError(f"expected SuperLink to start, its log ends: {_tail(folder)}")
        time.sleep(0.1)


def _tail(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace")[-3000:]


def versions() -> dict[str, str]:
    """Of Flower and what carries it; none where its environment was not made: the hub is measured all the same."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        return {}
    code = "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in ('flwr', 'uvicorn')}))"
    shown = subprocess.run([ENVIRONMENT / "bin" / "python", "-c", code], capture_output=True, text=True, check=False)
    return dict(json.loads(shown.stdout)) if shown.returncode == 0 else {}
