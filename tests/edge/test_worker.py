"""The worker process and the core's side of it."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.core import Core
from edge.link import WorkerLink
from edge.request import Place, Request, read_frame, write_frame
from tests.conftest import ROOT
from tests.edge.boards import NAME, Board, Farm, jobs, make_board
from wire.masks import pairwise
from wire.memory import Network
from wire.messages import Job, decode
from wire.messages import Version as VersionMessage

PATIENCE_S = 60.0
LONG = {"steps": 100_000, "batch": 4, "learning_rate": 0.0}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """A board with a text bundle."""
    return make_board(tmp_path_factory.mktemp("worker"))


@pytest.fixture
def farms(board: Board) -> Iterator[Callable[[WorkerLink], Farm]]:
    """Farms with real workers, which are ended afterwards; the state folder is new."""
    made: list[Farm] = []

    def make(link: WorkerLink) -> Farm:
        shutil.rmtree(board.config.state, ignore_errors=True)
        made.append(Farm(board, Network(), link))
        return made[-1]

    yield make
    for farm in made:
        farm.link.close()
        if farm.core is not None and farm.core.setup.lock is not None:
            farm.core.setup.lock.close()


def until(farm: Farm, condition: Callable[[], Any]) -> bool:
    """Let real time pass."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        farm.run(condition, seconds=1)
        if condition():
            return True
        time.sleep(0.02)
    return False


def computing(core: Core, name: str) -> Callable[[], bool]:
    """Whether the worker has begun a job and said so."""
    return lambda: bool(core.status.jobs.get(name, {}).get("done"))


def test_a_worker_that_is_killed_costs_one_job(farms: Any) -> None:
    """Killed in the middle of a job, the worker is replaced: the hub hears why, and the next job is done."""
    link = WorkerLink()
    farm = farms(link)
    core = farm.start()
    version = farm.hub.publish_version(farm.board.manifest, 1)
    farm.hub.ask(Job(NAME, "long", "train", 1, (version,), LONG))
    assert until(farm, computing(core, "long"))
    first = link.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)

    assert until(farm, lambda: "long" in farm.hub.failed)
    assert "the worker was ended by SIGKILL in the middle of the job" in farm.hub.failed["long"]
    for job in jobs(version):
        farm.hub.ask(job)
    assert until(farm, lambda: not farm.hub.open and not core.outbox.updates)
    assert len(farm.hub.accepted) == 3
    assert link.pid not in (None, first)
    figures = core.status.jobs[f"r1-train-{NAME}"]
    assert figures["seconds_per_step"] > 0
    assert 20e6 < figures["anon_bytes"] < figures["peak_bytes"] < 400e6
    assert core.status.worker_peak_bytes >= figures["peak_bytes"]


def test_a_worker_above_its_budget_is_ended(farms: Any) -> None:
    """A worker that needs more memory than the budget is killed, and the words name both figures."""
    farm = farms(WorkerLink(budget_bytes=30 << 20))
    farm.start()
    version = farm.hub.publish_version(farm.board.manifest, 1)
    farm.hub.ask(Job(NAME, "long", "train", 1, (version,), LONG))

    assert until(farm, lambda: "long" in farm.hub.failed)
    assert "expected the worker to stay within 30.0 MiB, found a peak of" in farm.hub.failed["long"]


def test_an_idle_worker_gives_its_memory_back(farms: Any) -> None:
    """After the idle time the worker process is gone; a cancel ends it at once; the next job starts another."""
    link = WorkerLink(idle_s=0.3)
    farm = farms(link)
    core = farm.start()
    version = farm.hub.publish_version(farm.board.manifest, 1)
    farm.hub.ask(jobs(version)[1])
    assert until(farm, lambda: not farm.hub.open)
    assert until(farm, lambda: link.pid is None)

    long = Job(NAME, "long", "train", 1, (version,), LONG)
    farm.hub.ask(long)
    assert until(farm, computing(core, "long"))
    farm.hub.cancel(long)
    assert until(farm, lambda: link.pid is None)
    farm.hub.ask(jobs(version)[0])
    assert until(farm, lambda: not farm.hub.open)
    assert "long" not in farm.hub.failed


PARENT = """
import sys, time
from edge.link import WorkerLink
from edge.request import Place, Request
link = WorkerLink()
link.start(lambda kind, fields: None)
place = Place("nowhere", "", "nowhere", 0.0, "nowhere")
link.submit(Request("x", "train", 0, (), (), place, "nowhere"))
print(link.pid, flush=True)
time.sleep(60)
"""


def test_a_worker_ends_with_its_core() -> None:
    """When the core is killed, nothing of it stays: the worker is gone soon after."""
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + PATIENCE_S
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(worker)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to look does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_stray_prints_do_not_reach_the_core(board: Board, tmp_path: Path) -> None:
    """What a library prints on stdout goes to stderr: the frames on the pipe stay whole."""
    noisy = (
        "import os, sys, edge.worker as w, edge.jobs as j\n"
        "serve = w._serve\n"
        "def loud(*a):\n    print('noise', flush=True); os.write(1, b'more noise'); serve(*a)\n"
        "w._serve = loud\n"
        "sys.exit(w.main())\n"
    )
    answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
    link = WorkerLink(command=[sys.executable, "-c", noisy])
    link.start(lambda kind, fields: answers.put((kind, fields)))
    farm = Farm(board, Network(), link)
    version = farm.hub.publish_version(board.manifest, head=False)
    body = decode(farm.hub.bodies[version], VersionMessage)
    setup = farm.setup()
    for name, data in farm.hub.blobs.items():
        path = Path(setup.place.blobs) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    link.submit(Request("job", "statistics", 1, (version,), (body,), setup.place, str(tmp_path / "out")))
    kind, fields = answers.get(timeout=PATIENCE_S)
    while kind == "progress":
        kind, fields = answers.get(timeout=PATIENCE_S)
    link.close()
    assert setup.lock is not None
    setup.lock.close()

    assert (kind, fields.get("reason")) == ("result", None)
    assert (tmp_path / "out").stat().st_size > 0


def test_a_worker_that_talks_nonsense_is_replaced() -> None:
    """Bytes that are no frames end the worker and the job, with words."""
    answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
    nonsense = "import sys; sys.stdin.buffer.read(1); sys.stdout.buffer.write(b'hello there'); sys.stdout.flush()"
    link = WorkerLink(command=[sys.executable, "-c", nonsense])
    link.start(lambda kind, fields: answers.put((kind, fields)))
    link.submit(Request("job", "train", 0, (), (), Place("", "", "", 0.0, ""), ""))
    kind, fields = answers.get(timeout=PATIENCE_S)
    link.close()

    assert kind == "error"
    assert "expected a frame of at most" in fields["reason"]


def test_a_worker_masks_what_another_job_made(tmp_path: Path) -> None:
    """Without a bundle, a worker adds and takes away the masks of some seeds; only its owner can read the file."""
    seeds = [bytes([n]) * 32 for n in (1, 2, 3)]
    words = np.arange(70_000, dtype=np.uint64)
    (tmp_path / "vector").write_bytes(words.tobytes())
    told = {"vector": str(tmp_path / "vector"), "plus": seeds[:2], "minus": seeds[2:]}
    answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
    link = WorkerLink()
    link.start(lambda kind, fields: answers.put((kind, fields)))
    link.submit(Request("job", "mask", 1, (), (), Place("", "", "", 0.0, ""), str(tmp_path / "out"), told))
    kind, fields = answers.get(timeout=PATIENCE_S)
    link.close()

    assert (kind, fields["samples"]) == ("result", 0)
    masked = np.frombuffer((tmp_path / "out").read_bytes(), np.uint64).copy()
    assert np.array_equal(pairwise.add(masked, seeds[2:], seeds[:2]), words)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Frames follow one another; a frame that is cut off is the end of the stream."""
    path = tmp_path / "frames"
    with path.open("wb") as file:
        write_frame(file, "progress", {"id": "a", "done": 1})
        write_frame(file, "result", {"id": "a", "samples": 2})
    with path.open("rb") as file:
        assert read_frame(file) == ("progress", {"id": "a", "done": 1})
        assert read_frame(file) == ("result", {"id": "a", "samples": 2})
        assert read_frame(file) is None
    path.write_bytes(path.read_bytes()[:-1])
    with path.open("rb") as file:
        read_frame(file)
        assert read_frame(file) is None


@pytest.mark.parametrize("module", ["edge.worker", "edge.local.answering"])
def test_a_worker_hashes_without_openssl(module: str) -> None:
    """Its first import of hashlib comes when OpenSSL is shut out, which is 3.4 MiB of every budget."""
    code = (
        f"import sys, {module}; early = 'hashlib' in sys.modules\n"
        "from edge.worker import hash_without_openssl\n"
        "hash_without_openssl()\n"
        "import edge.jobs, edge.split.told\n"
        "print(early, sys.modules['_hashlib'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "None"]
