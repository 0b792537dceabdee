"""Updates on their way: any order, and never more memory than was promised."""

from __future__ import annotations

import random

import pytest

from hub.serving.inbox import Inbox
from wire.chunks import cut
from wire.files import digest
from wire.messages import Begin, Sender

DATA = random.Random(0).randbytes(5000)


def begin(data: bytes = DATA, device: str = "barn", number: int = 1) -> Begin:
    """The beginning of an update in chunks of 1024 bytes."""
    return Begin(
        Sender(device, "boot", 1), digest(data), "adapter", f"r{number}-train-{device}", number, "a" * 64,
        len(data), 8, chunk_bytes=1024,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_chunks_and_commit_come_in_any_order(seed: int) -> None:
    """After the beginning, chunks and commit in any order, some twice, give the update exactly once it is whole."""
    inbox, pieces = Inbox(), list(cut(DATA, (), 1024))
    order: list[object] = [*pieces, *pieces[:2], "commit"]
    random.Random(seed).shuffle(order)
    inbox.begin(begin())

    whole = None
    for item in order:
        if item == "commit":
            partial = inbox.commit("barn", digest(DATA))
            assert partial is not None
            whole = whole or (partial if not partial.assembly.missing() else None)
        else:
            whole = inbox.add("barn", item) or whole  # type: ignore[arg-type]  # the rest are chunks

    assert whole is not None
    assert whole.assembly.join() == DATA


def test_chunks_without_a_beginning_are_not_kept() -> None:
    """Nobody can fill the memory with chunks of what no signed message has announced."""
    inbox = Inbox()

    assert inbox.add("barn", cut(DATA, (), 1024)[0]) is None
    assert inbox.commit("barn", digest(DATA)) is None
    assert inbox.partials == {}


def test_chunks_belong_to_the_device_that_began() -> None:
    """Another device's chunks of the same bytes go nowhere."""
    inbox = Inbox()
    inbox.begin(begin())

    inbox.add("coop", cut(DATA, (), 1024)[0])

    assert len(inbox.partials["barn", digest(DATA)].assembly.missing()) == 5


def test_a_repeated_beginning_keeps_what_has_arrived() -> None:
    """A device that sends again after a lost connection goes on where it was."""
    inbox = Inbox()
    inbox.begin(begin())
    inbox.add("barn", cut(DATA, (), 1024)[3])

    inbox.begin(begin())

    assert inbox.partials["barn", digest(DATA)].assembly.missing() == (0, 1, 2, 4)


def test_a_device_has_few_updates_at_a_time() -> None:
    """A fourth update of one device pushes out its own oldest one, and nobody else's."""
    inbox = Inbox()
    inbox.begin(begin(b"other", "coop"))
    for number in range(4):
        inbox.begin(begin(bytes([number]) * 2000))

    names = [digest(bytes([number]) * 2000) for number in range(4)]
    assert list(inbox.partials) == [("coop", digest(b"other")), *(("barn", name) for name in names[1:])]


def test_all_together_stay_below_the_limit() -> None:
    """However many devices begin, the announced bytes stay below the limit; the longest untouched goes first."""
    inbox = Inbox(limit_bytes=12_000)
    inbox.begin(begin(DATA, "barn"))
    inbox.begin(begin(DATA, "coop"))
    inbox.add("barn", cut(DATA, (), 1024)[0])

    inbox.begin(begin(DATA, "mill"))

    assert [device for device, _ in inbox.partials] == ["barn", "mill"]
    assert inbox.bytes == 10_000


def test_what_nobody_waits_for_is_forgotten() -> None:
    """Partial updates of rounds that are over are dropped."""
    inbox = Inbox()
    inbox.begin(begin(b"one", number=1))
    inbox.begin(begin(b"two", number=2))

    inbox.keep_rounds({2})

    assert list(inbox.partials) == [("barn", digest(b"two"))]
