"""Nothing that an agent writes or remembers grows without bound: many rounds on a clock of the test's own."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

from edge import protocol as p
from edge.core import FETCH_PATIENCE_S, MOST_HELD, Core
from edge.events import Crashed, JobCame
from edge.logs import FILE, LIMIT_BYTES, log_to_file
from edge.outbox import Outbox
from edge.status import REMEMBERED_ROUNDS, Traffic
from edge.store import CROWDED
from tests.conftest import ROOT
from tests.edge.boards import Farm, HereLink, make_board
from tests.edge.test_disk import put
from tests.processes import started, until
from wire.memory import MemoryTransport, Network
from wire.messages import Cancel, Job, Version, decode, encode

NAME = "barn-1"
ROUNDS = 30  # of one half of the soak


def disk(folder: Path) -> dict[str, int]:
    """Bytes by the first part of the path below a folder."""
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            part = path.relative_to(folder).parts[0]
            found[part] = found.get(part, 0) + path.stat().st_size
    return found


def memory_of(core: Core) -> int:
    """Bytes of all objects that a core holds, of its own network's and of code none."""
    apart = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
    others = (MemoryTransport, HereLink, logging.Logger)
    seen, left, total = set[int](), [core.__dict__], 0
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, (*apart, *others)):
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        left += gc.get_referents(found)
    return total


def round_(farm: Farm, number: int) -> None:
    """A version of its own; jobs that are done, that fail, that nobody waits for any more; now and then a release."""
    version = farm.hub.publish_version(farm.board.manifest, number, rank=2, seed=number)
    kind: Any = "train" if number % 4 == 0 else "statistics"
    settings = {"steps": 1, "batch": 4, "learning_rate": 0.01, "seed": 3} if kind == "train" else {}
    farm.hub.ask(Job(NAME, f"r{number}-{kind}", kind, number, (version,), settings))
    bad = Job(NAME, f"r{number}-bad", "train", number, (version,), {"steps": -1})
    farm.hub.ask(bad)
    lost = farm.hub.publish_version(farm.board.manifest, 10_000 + number, rank=2, seed=10_000 + number)
    if number % 3 == 0:
        farm.hub.release(version, number + 1, number)
    assert farm.run(lambda: bad.job in farm.hub.failed and not farm.hub.open), farm.hub.open
    if number % 5 == 0:
        for rung in decode(farm.hub.bodies[lost], Version).rungs:
            farm.hub.blobs.pop(rung.blob)  # the hub never sends it
        waits = Job(NAME, f"r{number}-waits", "train", number, (lost,), settings)
        farm.hub.ask(waits)
        farm.run(seconds=3)
        farm.hub.cancel(waits)
        farm.run(seconds=3)


def test_twice_the_rounds_take_no_more_room_than_the_first_ones(tmp_path: Path) -> None:
    """Disk and memory after twice as many rounds are what they were, but for receipts below their number.

    With versions that nobody serves, jobs that fail, jobs that are cancelled half fetched, and kills.
    """
    farm = Farm(make_board(tmp_path), Network(seed=1, repeat=0.1, reorder=0.2), HereLink())
    farm.start()
    state, found = farm.board.config.state, []
    for number in range(1, 2 * ROUNDS + 1):
        round_(farm, number)
        if number % 25 == 0:
            farm.kill()
            farm.start()
        if number in (ROUNDS, 2 * ROUNDS):
            farm.run(seconds=FETCH_PATIENCE_S + 100)  # a cancel may overtake its job, which then waits that long
            assert farm.core is not None
            found.append((disk(state), memory_of(farm.core), len(farm.core.intake.asked)))

    (disk_before, memory_before, _), (disk_after, memory_after, asked) = found
    assert asked == 0
    assert set(disk_after) <= {"status.json", "outbox", "versions", "blobs", "release.json", "work", "lock", "masks"}
    for part in set(disk_after) - {"outbox", "status.json"}:
        assert disk_after[part] <= 1.2 * disk_before.get(part, 0) + 4096, part
    assert disk_after["outbox"] < disk_before["outbox"] + ROUNDS * 1024  # receipts, up to their number
    assert disk_after["status.json"] < 200_000
    assert memory_after < memory_before + ROUNDS * 4096  # names of finished jobs, up to their number
    assert len(list((state / "versions").glob("*.body"))) <= CROWDED + 1


def test_what_is_remembered_by_number_stays_within_it() -> None:
    """Jobs that wait, reasons of failures and traffic by round are as many as they may be, the latest ones."""
    life = p.Life(phase=p.COMPUTING, job=Job(NAME, "r0", "train", 0, ("0" * 64,)))
    for number in range(3 * p.MOST_QUEUED):
        life, _ = p.step(life, JobCame(Job(NAME, f"r{number + 1}", "train", 1, ("0" * 64,))))
    assert len(life.queue) == p.MOST_QUEUED

    for number in range(3 * p.MOST_FAILED):
        life = p.Life(phase=p.COMPUTING, job=Job(NAME, f"r{number}", "train", 0, ("0" * 64,)), failed=life.failed)
        life, _ = p.step(life, Crashed(f"r{number}", "why"))
    assert list(life.failed) == [f"r{number}" for number in range(2 * p.MOST_FAILED, 3 * p.MOST_FAILED)]

    traffic = Traffic()
    for number in range(5 * REMEMBERED_ROUNDS):
        traffic.enter(number)
        traffic.add(up=2, down=3)
    assert len(traffic.by_round) == REMEMBERED_ROUNDS + 1
    assert (traffic.up, traffic.down) == (10 * REMEMBERED_ROUNDS, 15 * REMEMBERED_ROUNDS)
    assert traffic.by_round[5 * REMEMBERED_ROUNDS - 1] == [2, 3]


def test_versions_that_nobody_serves_do_not_pile_up(tmp_path: Path) -> None:
    """A board that takes part in nothing keeps a few of the versions that its hub announces, and no more."""
    farm = Farm(make_board(tmp_path), Network(), HereLink())
    farm.start()
    for number in range(5 * CROWDED):
        farm.hub.publish_version(farm.board.manifest, number, seed=number)
        farm.run(seconds=1)

    assert len(list((farm.board.config.state / "versions").iterdir())) <= 2 * (CROWDED + 1)


def test_messages_that_come_while_a_bundle_is_proved_are_held_up_to_a_number(tmp_path: Path) -> None:
    """A proof that takes long does not fill the memory with messages that come again anyway."""
    farm = Farm(make_board(tmp_path), Network(), HereLink())
    core = farm.start()
    core._renewing.proving = "bundle-1"
    for number in range(3 * MOST_HELD):
        farm.hub.say("down", Cancel.TYPE, encode(Cancel(NAME, f"r{number}")), NAME)
    farm.run(seconds=2)

    assert len(core._held) == MOST_HELD


def test_what_a_killed_worker_left_goes_with_the_next_job(tmp_path: Path) -> None:
    """Half a payload, and what it loses, are gone when the next job begins, without a start of the agent."""
    farm = Farm(make_board(tmp_path), Network(), HereLink())
    farm.start()
    work = farm.board.config.state / "work"
    for name in (".0123.payload.x7", "0123.payload", "0123.payload.lost"):
        (work / name).write_bytes(b"half")
    farm.hub.ask(Job(NAME, "r1", "statistics", 1, (farm.hub.publish_version(farm.board.manifest, 1),)))

    assert farm.run(lambda: not farm.hub.open)
    assert list(work.iterdir()) == []


def test_a_worker_that_crashes_leaves_no_image_of_its_memory(tmp_path: Path) -> None:
    """Its limit for such files is zero, whatever that of the agent is: then the kernel writes none."""
    code = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (1 << 20, 1 << 20)); import edge.worker as w; w.main()"
    with started(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        limits = Path(f"/proc/{process.pid}/limits")
        until(lambda: re.search(r"Max core file size +0 +0", limits.read_text()) is not None, process)
        process.send_signal(signal.SIGKILL)


def test_receipts_are_of_bounded_size_whatever_the_hub_says(tmp_path: Path) -> None:
    """A database that has seen more than twice the receipts that it keeps is hardly larger than before."""
    box, sizes = Outbox(tmp_path, quota_bytes=100 * 512), []
    for number in range(260):
        box.receipt(put(box, tmp_path, b"%d" % number, job=f"r{number}-train-a"), "refused", "x" * 300)
        if number in (129, 259):
            sizes.append(sum(path.stat().st_size for path in (tmp_path / "outbox").iterdir()))

    assert sizes[1] <= 1.1 * sizes[0]  # pages that are half full


def test_a_log_file_is_of_bounded_size_and_only_where_no_journal_is(tmp_path: Path) -> None:
    """Two files of at most the limit; where standard error is a journal's, that has the log and there is no file."""
    log, told = logging.getLogger("edgequilt"), os.fstat(2)
    before = (log.handlers[:], log.level)
    try:
        log_to_file(tmp_path, {"JOURNAL_STREAM": f"{told.st_dev}:{told.st_ino}"})
        assert log.handlers == before[0]
        log_to_file(tmp_path, {"JOURNAL_STREAM": "1:2"})
        log.setLevel(logging.INFO)
        for number in range(700):
            logging.getLogger("edgequilt.agent").info("line %d %s", number, "x" * 6000)
        sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert set(sizes) == {FILE, f"{FILE}.1"}
        assert max(sizes.values()) <= LIMIT_BYTES
        assert "line 699" in (tmp_path / FILE).read_text()
    finally:
        for handler in log.handlers:
            if handler not in before[0]:
                handler.close()
        log.handlers[:] = before[0]
        log.setLevel(before[1])
