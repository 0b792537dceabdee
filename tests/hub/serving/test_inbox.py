"""Updates on their way: any order, a hub that starts again, and never more than was promised."""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import StorageError
from hub.serving.inbox import AGE_S, FULL_S, LIMIT_BYTES, OF_TAILS, PER_DEVICE, Inbox
from hub.store.partial_files import FilePartials
from hub.store.partials import SmallApart
from tests.fuse import Fuse, Killed
from wire.chunks import cut, indexes_of
from wire.files import digest
from wire.messages import Begin, Chunk, Sender, UpdateKind

DATA = random.Random(0).randbytes(5000)
NAME = digest(DATA)


def begin(data: bytes = DATA, device: str = "barn", number: int = 1, sequence: int = 1) -> Begin:
    """The beginning of an update in chunks of 1024 bytes."""
    return Begin(
        Sender(device, "boot", sequence), digest(data), "adapter", f"r{number}-train-{device}", number, "a" * 64,
        len(data), 8, chunk_bytes=1024,
    )  # fmt: skip


@dataclass
class Clock:
    at_s: float = 1000.0

    def __call__(self) -> float:
        return self.at_s


def open_inbox(folder: Path, clock: Clock | None = None, limit_bytes: int = LIMIT_BYTES) -> Inbox:
    """An inbox as a hub that starts finds it."""
    return Inbox(FilePartials(folder), clock or Clock(), limit_bytes=limit_bytes)


def pieces(*indexes: int) -> list[Chunk]:
    """Chunks of the update."""
    return cut(DATA, indexes, 1024)


@pytest.mark.parametrize("seed", range(5))
def test_chunks_and_commit_come_in_any_order(tmp_path: Path, seed: int) -> None:
    """After the beginning, chunks and commit in any order, some twice, say once that the update is whole."""
    inbox = open_inbox(tmp_path)
    order: list[Chunk | None] = [*pieces(), *pieces(0, 1), None]
    random.Random(seed).shuffle(order)
    inbox.begin(begin())

    done = []
    for item in order:
        if item is None:
            found = inbox.commit("barn", NAME)
            assert found is not None
            done.append(found.whole)
        else:
            done.append(inbox.add("barn", item))

    assert any(done)
    assert inbox.store.join("barn", NAME) == DATA


def test_chunks_without_a_beginning_are_not_kept(tmp_path: Path) -> None:
    """Nobody can fill the disk with chunks of what no signed message has announced."""
    inbox = open_inbox(tmp_path)

    assert not inbox.add("barn", pieces(0)[0])
    assert inbox.commit("barn", NAME) is None
    assert list(tmp_path.rglob("*")) == []


def test_chunks_belong_to_the_device_that_began(tmp_path: Path) -> None:
    """Another device's chunks of the same bytes go nowhere."""
    inbox = open_inbox(tmp_path)
    inbox.begin(begin())

    inbox.add("coop", pieces(0)[0])

    found = inbox.commit("barn", NAME)
    assert found is not None
    assert found.missing == ((0, 4),)


def test_a_hub_that_starts_again_knows_what_it_has(tmp_path: Path) -> None:
    """Beginning, chunks and commit are there after a kill, and only the rest is missing; a repeated beginning too."""
    inbox = open_inbox(tmp_path)
    inbox.begin(begin())
    inbox.add("barn", pieces(3)[0])
    inbox.commit("barn", NAME)

    later = open_inbox(tmp_path)
    later.begin(begin(sequence=9))

    found = later.commit("barn", NAME)
    assert found is not None
    assert (found.begin, found.committed, found.missing) == (begin(), True, ((0, 2), (4, 4)))
    assert [later.add("barn", chunk) for chunk in pieces(0, 1, 2, 4)] == [False, False, False, True]
    assert later.store.join("barn", NAME) == DATA


def test_the_same_bytes_may_become_another_jobs(tmp_path: Path) -> None:
    """A beginning that names another job counts, also after a restart, and keeps what has arrived."""
    inbox = open_inbox(tmp_path)
    inbox.begin(begin())
    inbox.add("barn", pieces(3)[0])
    long = replace(begin(number=2), metrics={"loss": [0.5] * 60})
    inbox.begin(long)

    found = open_inbox(tmp_path).commit("barn", NAME)

    assert found is not None
    assert (found.begin, found.missing) == (long, ((0, 2), (4, 4)))


def test_what_a_power_cut_took_is_asked_for_again(tmp_path: Path) -> None:
    """Nothing is synced: a chunk whose bytes are gone is missing, a file that is gone is a beginning that is."""
    inbox = open_inbox(tmp_path)
    inbox.begin(begin())
    for chunk in pieces():
        inbox.add("barn", chunk)
    (path,) = tmp_path.rglob("*.part")
    with path.open("r+b") as file:
        file.seek(64 + 4 * 5 + 2 * 1024)
        file.write(bytes(1024))

    later = open_inbox(tmp_path)
    found = later.commit("barn", NAME)
    assert found is not None
    assert found.missing == ((2, 2),)

    os.truncate(path, 40)
    os.utime(path, (0, 0))  # one that is new another worker may just be writing
    assert open_inbox(tmp_path).commit("barn", NAME) is None
    assert list(tmp_path.rglob("*.part")) == []


def test_bytes_that_are_not_those_of_the_digest_are_forgotten(tmp_path: Path) -> None:
    """A chunk of the right length with wrong bytes makes all of them suspicious: everything is asked for again."""
    inbox = open_inbox(tmp_path)
    inbox.begin(begin())
    for chunk in [replace(pieces(0)[0], data=bytes(1024)), *pieces(1, 2, 3, 4)]:
        inbox.add("barn", chunk)

    assert inbox.store.join("barn", NAME) is None
    found = inbox.commit("barn", NAME)
    assert found is not None
    assert found.missing == ((0, 4),)


def test_one_worker_at_a_time_completes_an_update(tmp_path: Path) -> None:
    """Of two workers over one folder the second one is told so, and after the first is done there is nothing left."""
    first, second = open_inbox(tmp_path), open_inbox(tmp_path)
    first.begin(begin())
    second.add("barn", pieces(0)[0])

    with first.store.alone("barn", NAME) as mine, second.store.alone("barn", NAME) as others:
        assert (mine, others) == (True, False)
        first.drop("barn", NAME)
    with second.store.alone("barn", NAME) as mine:
        assert not mine
    assert second.commit("barn", NAME) is None


def test_a_device_has_few_updates_at_a_time(tmp_path: Path) -> None:
    """A fourth update of one device pushes out its own oldest one, and nobody else's, also after a restart."""
    inbox = open_inbox(tmp_path)
    inbox.begin(begin(b"other", "coop"))
    for number in range(3):
        inbox.begin(begin(bytes([number]) * 2000))
        os.utime(tmp_path / "barn" / f"{digest(bytes([number]) * 2000)}.part", (5000 + number, 5000 + number))
    inbox = open_inbox(tmp_path)
    inbox.begin(begin(b"fourth"))

    names = [*(digest(bytes([number]) * 2000) for number in (1, 2)), digest(b"fourth")]
    assert sorted(inbox.kept) == sorted([("coop", digest(b"other")), *(("barn", name) for name in names)])
    assert len(list(tmp_path.rglob("*.part"))) == 4


def test_all_together_stay_below_the_limit(tmp_path: Path) -> None:
    """However many devices begin, the announced bytes stay below the limit; the longest untouched goes first."""
    inbox = open_inbox(tmp_path, limit_bytes=12_000)
    inbox.begin(begin(DATA, "barn"))
    inbox.begin(begin(DATA, "coop"))
    inbox.add("barn", pieces(0)[0])

    inbox.begin(begin(DATA, "mill"))

    assert [device for device, _ in inbox.kept] == ["barn", "mill"]
    assert inbox.bytes == 10_000


def test_what_nobody_waits_for_is_forgotten(tmp_path: Path) -> None:
    """Partial updates of rounds that are over are dropped, and those that nobody touched for a week."""
    clock = Clock()
    inbox = open_inbox(tmp_path, clock)
    for number, data in ((1, b"one"), (2, b"two"), (2, b"three")):
        inbox.begin(begin(data, number=number))

    inbox.keep_rounds({2})
    assert list(inbox.kept) == [("barn", digest(b"two")), ("barn", digest(b"three"))]

    clock.at_s += AGE_S
    inbox.add("barn", cut(b"three", (), 1024)[0])
    clock.at_s += 1
    inbox.keep_rounds({2})
    assert [path.stem for path in tmp_path.rglob("*.part")] == [digest(b"three")]


def test_a_full_disk_is_not_asked_to_take_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that cannot be written is no chunk, and for some seconds nothing is asked for; then it may come again."""
    clock = Clock()
    inbox = open_inbox(tmp_path, clock)
    inbox.begin(begin())

    def full(handle: int, data: bytes, at: int, /) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StorageError, match="No space left on device"):
            inbox.add("barn", pieces(0)[0])
    assert inbox.is_full

    clock.at_s += FULL_S
    assert not inbox.is_full
    inbox.add("barn", pieces(0)[0])
    found = inbox.commit("barn", NAME)
    assert found is not None
    assert found.missing == ((1, 4),)


def test_an_update_of_one_chunk_makes_no_file(tmp_path: Path) -> None:
    """It is taken and completed all the same; a larger one beside it makes one, and both are bounded together."""
    inbox = Inbox(SmallApart(FilePartials(tmp_path)), Clock())
    small = b"small" * 100
    for announced in (begin(small), begin()):
        inbox.begin(announced)
    assert [path.stem for path in tmp_path.rglob("*.part")] == [NAME]
    for chunk in [*cut(small, (), 1024), *pieces()]:
        assert not inbox.add("barn", chunk)

    for data in (small, DATA):
        found = inbox.commit("barn", digest(data))
        assert found is not None
        assert found.whole
        with inbox.store.alone("barn", digest(data)) as alone:
            assert alone
            assert inbox.store.join("barn", digest(data)) == data
            inbox.drop("barn", digest(data))
        assert inbox.store.get("barn", digest(data)) is None
    assert (inbox.kept, inbox.store.entries()) == ({}, [])


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_a_hub_killed_at_any_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float) -> None:
    """Before each write in turn, or with half of its bytes written, it dies; its device says only what is asked for."""
    write = os.pwrite
    for instant in count(1):
        folder, fuse = tmp_path / f"{instant}", Fuse(instant)

        def burning(handle: int, data: bytes, at: int, /, fuse: Fuse = fuse) -> int:
            if fuse.left == 1 and part:
                write(handle, data[: int(len(data) * part)], at)
            fuse.burn("before", "partial")
            return write(handle, data, at)

        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(os, "pwrite", burning)
            inbox = open_inbox(folder)
            inbox.begin(begin())
            for chunk in pieces(2, 0, 1, 4):
                inbox.add("barn", chunk)
            inbox.begin(replace(begin(number=2), metrics={"more": 1}))
            inbox.add("barn", pieces(3)[0])
            inbox.commit("barn", NAME)

        later = open_inbox(folder)
        later.begin(begin(number=2))
        found = later.commit("barn", NAME)
        assert found is not None
        for index in indexes_of(found.missing, 5):
            later.add("barn", pieces(index)[0])
        assert later.store.join("barn", NAME) == DATA
        if not fuse.struck:
            break
    assert instant > 12


CHUNKS = st.builds(
    Chunk,
    st.sampled_from([NAME, digest(b"other")]),
    st.integers(0, 6),
    st.integers(1, 6),
    st.sampled_from([DATA[1024 * i : 1024 * (i + 1)] for i in range(5)] + [b"", b"short", bytes(1024), bytes(1025)]),
)
STEPS = st.lists(st.one_of(CHUNKS, st.integers(0, 4), st.sampled_from(["begin", "commit", "restart"])), max_size=40)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_nothing_that_comes_does_harm(steps: list[object]) -> None:
    """Whatever comes, in any order and again: what is kept is what a dictionary of the first fitting chunks keeps."""
    with tempfile.TemporaryDirectory() as folder:
        inbox, kept, begun, committed = open_inbox(Path(folder)), dict[int, bytes](), False, False
        for step in steps:
            if step == "begin":
                inbox.begin(begin())
                begun = True
            elif step == "commit":
                found = inbox.commit("barn", NAME)
                committed = begun
                assert (found is not None) == begun
            elif step == "restart":
                inbox = open_inbox(Path(folder))
            else:
                chunk = step if isinstance(step, Chunk) else pieces(int(str(step)))[0]
                right = chunk.blob == NAME and chunk.index < 5
                right = right and len(chunk.data) == (904 if chunk.index == 4 else 1024)
                if begun and right:
                    kept.setdefault(chunk.index, chunk.data)
                whole = begun and right and committed and len(kept) == 5
                assert inbox.add("barn", chunk) == whole
            found = inbox.store.get("barn", NAME)
            assert (found is not None) == begun
            if found is not None:
                assert [i for i, here in enumerate(found.present) if here] == sorted(kept)
        if begun and len(kept) == 5:
            data = b"".join(kept[i] for i in range(5))
            assert inbox.store.join("barn", NAME) == (DATA if data == DATA else None)


def test_a_device_that_has_tails_sends_for_all_its_boards(tmp_path: Path) -> None:
    """A device has few updates on their way, one with tails as many as it has boards, within a bound of its own."""
    told: list[tuple[UpdateKind, int]] = [("adapter", PER_DEVICE), ("tail", OF_TAILS)]
    for kind, kept in told:
        inbox = open_inbox(tmp_path / kind)
        for index in range(OF_TAILS + 2):
            inbox.begin(replace(begin(b"%d" % index * 600), kind=kind))
        assert len(inbox.kept) == kept
