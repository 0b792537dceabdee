"""An agent that waits, beside Flower's SuperNode that waits: `python -m bench.idle [--turns N] [--quick]`.

An agent (mosquitto, mutual TLS, a claimed identity, a small text bundle) and a SuperNode (SuperLink, TLS, a registered
key; `sh bench/flower/environment.sh` makes its environment) are started in turns, as users start them. *Connected*:
from the start of the program until a process of it has a TCP connection to its server. *Idle*: the memory (PSS) of all
its processes five seconds later. For the agent, too: until the first local request is answered, for which a worker
starts, and the memory of core and worker after that. Medians over turns, and their range.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.flower.theirs import ARMS, ENVIRONMENT, HERE, _superlink, _told, _until
from bench.load.processes import SERVER_CORE, child, machine, pss_bytes, tree
from console.table import table
from hub import authority
from hub.brokers.mosquitto import _free_port, _listens
from tests.edge.identity.test_journey import Farm, well
from tests.edge.local.programs import ask
from wire.files import write_atomic

SETTLE_S = 5.0
PATIENCE_S = 90.0
ESTABLISHED = "01"  # in /proc/net/tcp
MIB = 1 << 20


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="An agent that waits, beside a SuperNode that waits.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one turn: that it runs")
    parser.add_argument("--out", type=Path, default=Path("build/bench/idle.json"))
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"agent": [], "SuperNode": []}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        agent = stack.enter_context(our_fleet(Path(name)))
        node = stack.enter_context(their_fleet(Path(name) / "flower"))
        before = machine()
        for _ in range(1 if options.quick else options.turns):
            found["agent"].append(agent())
            found["SuperNode"].append(node())
    rows = [[who, what, shown([turn[what] for turn in turns])] for who, turns in found.items() for what in turns[0]]
    print(table(["program", "what", "median (range)"], rows))
    print(
        f"{before['processor']}, {before['cores']} cores, load before {before['load']}, {os.getloadavg()[0]:.1f} after"
    )
    report = {"turns": found, "before": before, "load_after": os.getloadavg()[0]}
    write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    return 0


def shown(values: list[float]) -> str:
    """The median and the range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@contextmanager
def our_fleet(folder: Path) -> Iterator[Callable[[], dict[str, float]]]:
    """A hub with its broker, and a board that claimed; what is yielded starts its agent once."""
    farm, board, socket = Farm(folder), folder / "b", folder / "a.sock"
    with farm.up():
        (made,) = well("hub", "enroll", "barn-1", "--hub", str(farm.hub), "--expires", "2h")["tokens"]
        told = ("--bundle", str(farm.board.bundle), "--data", str(farm.board.config.data))
        well("agent", "claim", "--token-file", "-", "--dir", str(board), *told, text=made["token"] + "\n")
        config = board / "agent.toml"
        config.write_text(f'{config.read_text()}\n[local]\nsocket = "{socket}"\n')
        command = [sys.executable, "-m", "edgequilt", "agent", "run", "--config", str(config)]

        def once() -> dict[str, float]:
            began = time.monotonic()
            with child(command, stderr=subprocess.DEVNULL) as process:
                wait(lambda: connected(process.pid, farm.broker))
                found = {"connected, s": time.monotonic() - began}
                time.sleep(SETTLE_S)
                found["idle, MiB"] = taken(tree(process.pid))
                found["of it the core, MiB"] = taken([process.pid])
                asked = time.monotonic()
                ask(socket, "POST", "/v1/infer", {"text": "red sun"})
                found["first answer, s"] = time.monotonic() - asked
                time.sleep(1)
                found["with a worker, MiB"] = taken(tree(process.pid))
            return found

        yield once


@contextmanager
def their_fleet(folder: Path) -> Iterator[Callable[[], dict[str, float]]]:
    """A SuperLink; what is yielded registers a node and starts its SuperNode once."""
    folder.mkdir()
    told, ca = _told(folder, ARMS["default"]), authority.create("flower", folder)
    authority.issue_server(ca, ["127.0.0.1", "localhost"], folder, "server")
    (folder / "state").mkdir()
    port, count = _free_port("127.0.0.1"), 0
    address, trusted = f"127.0.0.1:{port}", ["--root-certificates", str(folder / "ca.pem")]
    with (folder / "log").open("wb") as log:
        link = _superlink(folder, ARMS["default"], port)
        with child(link, SERVER_CORE, env=told, stdout=log, stderr=log) as server:
            _until(lambda: _listens("127.0.0.1", port), server, folder)

            def once() -> dict[str, float]:
                nonlocal count
                count += 1
                key = str(folder / f"{count}.key")
                register = [ENVIRONMENT / "bin" / "python", HERE / "register.py", address, folder / "ca.pem", key]
                subprocess.run(list(map(str, register)), env=told, check=True, timeout=PATIENCE_S)
                own = ["--host", "127.0.0.1", "--port", str(_free_port("127.0.0.1"))]
                place = ["--superlink", address, *trusted, "--auth-supernode-private-key", key, *own]
                began = time.monotonic()
                with child(
                    [ENVIRONMENT / "bin" / "flower-supernode", *place], env=told, stdout=log, stderr=log
                ) as node:
                    wait(lambda: connected(node.pid, port))
                    found = {"connected, s": time.monotonic() - began}
                    time.sleep(SETTLE_S)
                    found["idle, MiB"] = taken(tree(node.pid))
                    found["of it the first process, MiB"] = taken([node.pid])
                return found

            yield once


def taken(pids: list[int]) -> float:
    """Memory of processes, MiB of PSS."""
    return sum(map(pss_bytes, pids)) / MIB


def wait(true: Callable[[], bool]) -> None:
    """Until it is so.

    Raises:
        TimeoutError: it does not become so.
    """
    ends = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > ends:
            raise TimeoutError("expected a connection in time, found none")
        time.sleep(0.02)


def connected(root: int, port: int) -> bool:
    """Whether a process or one below it has a TCP connection to a port (proc(5), net/tcp)."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == ESTABLISHED and int(fields[2].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return any(inode in inodes for pid in tree(root) for inode in sockets(pid))


def sockets(pid: int) -> Iterator[str]:
    """What descriptors of a process say."""
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            yield str(entry.readlink())


if __name__ == "__main__":
    raise SystemExit(main())
