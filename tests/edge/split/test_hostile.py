"""What others can do to a split job, and what they cannot; how a half learns that the other one is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData
from edge.split import carry
from edge.split.stream import ANEW, WINDOW
from edge.split.told import other_of
from tests.edge.boards import Board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from tests.edge.split.places import BARN, COOP, JOB, InMemory, Two, make_boards, two
from wire.envelope import seal
from wire.keys import PrivateKey, new_key
from wire.messages import PART_LIMIT_BYTES, Crossing, Peer, Sender, encode
from wire.topics import topic_of

FASTER = 60.0


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Board]:
    """The files of a board and of a tail."""
    return make_boards(tmp_path_factory.mktemp("halves"))


@pytest.fixture
def halves(boards: dict[str, Board], tmp_path: Path) -> Iterator[Two]:
    """Both agents on a network in memory."""
    with two(InMemory(tmp_path / "place"), boards, FASTER) as made:
        yield made


def met(halves: Two, **play: Any) -> None:
    """Both have a job and have met."""
    halves.ask(BARN, **play)
    halves.ask(COOP, **play)
    halves.run(lambda: all(halves.counts(name).get("crossings") for name in (BARN, COOP)))


def stream(halves: Two, name: str) -> Any:
    """Of the half that runs there."""
    found = halves.cores[name].crossings._carry
    assert found is not None
    return found.halves[-1].stream


def forged(halves: Two, key: PrivateKey, job: str = JOB, number: int | None = None, data: bytes = b"evil") -> bytes:
    """What the board could say next to the tail, signed by some key."""
    own, next_one = stream(halves, COOP), stream(halves, COOP)._next if number is None else number
    said = Crossing(Sender(BARN, "b", 1), job, own.peer, own.own, next_one, "forth", fields={"step": 0}, data=data)
    return seal(key, encode(said))


def publish(halves: Two, payload: bytes, sender: str = BARN, receiver: str = COOP, kind: str = "crossing") -> None:
    """Put something on the network, as a broker without an access list lets anybody."""
    halves.place.network.route(topic_of(FLEET, MODEL, "peer", kind, sender, receiver), payload, retain=False)
    halves.place.settle()
    halves.cores[receiver].turn()


def test_only_the_key_that_the_hub_named_is_believed(halves: Two) -> None:
    """Notes signed by another key, of another device or for another job reach no worker; the job goes on."""
    met(halves, notes=6, slow_s=0.1)
    barn = halves.boards[BARN].key
    publish(halves, forged(halves, new_key("device", BARN)))
    publish(halves, forged(halves, new_key("hub", "hub")))
    assert halves.counts(COOP)["forged"] == 2

    publish(halves, forged(halves, barn), sender="mill")
    publish(halves, forged(halves, barn, job="r1-train-mill"))
    publish(halves, forged(halves, barn, job="r0-train-barn"))
    assert halves.counts(COOP)["stranger"] == 3

    publish(halves, b"\x00")
    publish(halves, seal(barn, b"no message"))
    publish(
        halves, seal(barn, encode(Peer(Sender(BARN, "b", 1), JOB, "0" * 16, "open")))
    )  # under the topic of a crossing
    publish(halves, forged(halves, barn)[:-20])
    publish(halves, bytes(carry.MESSAGE_LIMIT_BYTES + 1))
    assert halves.counts(COOP)["malformed"] == 2
    assert halves.counts(COOP)["forged"] == 4
    assert halves.counts(COOP)["oversize"] == 1
    halves.run(halves.done)


def test_a_part_that_is_too_long_is_not_taken(halves: Two) -> None:
    """Not even of the right key: it would be beyond what every broker and every other agent takes."""
    met(halves, notes=4, slow_s=0.2)
    number = stream(halves, COOP)._next
    publish(halves, forged(halves, halves.boards[BARN].key, data=bytes(PART_LIMIT_BYTES + 1)))
    assert stream(halves, COOP)._next == number
    halves.run(halves.done)


def test_what_was_said_once_counts_once(halves: Two) -> None:
    """All that crossed, said again at any time by whoever carries it, changes nothing, in this job and in the next."""
    met(halves, notes=3)
    halves.run(halves.done)
    said = [(topic, payload) for topic, payload in halves.place.network.history if "/peer/" in topic]
    halves.ask(BARN, "r2-train-barn", notes=4, slow_s=0.05)
    halves.ask(COOP, "r2-train-barn", notes=4)
    for topic, payload in said * 2:
        halves.place.network.route(topic, payload, retain=False)
        for core in halves.cores.values():
            core.turn()
    halves.run(halves.done)
    assert halves.state(BARN) == halves.state(COOP) == "waiting"


def test_a_worker_that_dies_is_heard_of_at_once(halves: Two) -> None:
    """The tail's worker is killed in the middle: the board's job fails with the tail's reason, and the agents go on."""
    halves.ask(BARN, notes=9)
    halves.ask(COOP, notes=9, crash=4)
    halves.run(lambda: halves.state(BARN) == halves.state(COOP) == "failed")
    assert "exit code 3" in halves.reason(COOP)
    assert "exit code 3" in halves.reason(BARN)

    halves.ask(BARN, "r2-train-barn")
    halves.ask(COOP, "r2-train-barn")
    halves.run(halves.done)


def test_a_board_that_fails_says_why(halves: Two) -> None:
    """The tail does not wait for a board that gave up, and tells the hub the board's own reason."""
    halves.ask(BARN, notes=9, fail="there is no more memory", fail_at=3)
    halves.ask(COOP)
    halves.run(lambda: halves.state(BARN) == halves.state(COOP) == "failed")
    assert "there is no more memory" in halves.reason(COOP)


def test_an_agent_that_vanishes_is_missed(halves: Two) -> None:
    """A tail without power: the board's job fails after some minutes of silence, which the sentence says."""
    met(halves, notes=200, slow_s=0.02)
    halves.kill(COOP)
    halves.run(lambda: halves.state(BARN) == "failed")
    assert "expected a sign of the other half within 150 s, found nothing" in halves.reason(BARN)


def test_an_agent_that_comes_back_has_forgotten_the_job(halves: Two) -> None:
    """A tail that was started again, and got its job again, ends the turn at once: a half cannot go on where it was."""
    met(halves, notes=200, slow_s=0.02)
    halves.kill(COOP)
    halves.start(COOP)
    halves.run(lambda: halves.cores[COOP].life.connected)
    halves.ask(COOP)
    halves.run(lambda: halves.state(BARN) == halves.state(COOP) == "failed")
    assert halves.reason(BARN) == ANEW


def test_a_job_that_is_cancelled_ends_the_other_half(halves: Two) -> None:
    """The hub waits no longer for the board: the tail hears of it from the board."""
    from edge import events as ev

    met(halves, notes=200, slow_s=0.02)
    halves.cores[BARN].happen(ev.Cancelled(JOB))
    halves.run(lambda: halves.state(COOP) == "failed")
    assert halves.reason(COOP) == "the hub waits for the job no longer"


def test_a_broker_that_lets_nothing_pass_is_named(halves: Two) -> None:
    """An access list without the lines for peers: the job fails at once, and its reason says what is lacking."""
    halves.place.network.may_write = lambda name, topic: "/peer/" not in topic
    halves.ask(BARN)
    halves.run(lambda: halves.state(BARN) == "failed", seconds=10)
    assert "add the lines of `edgequilt hub broker-config`" in halves.reason(BARN)


def test_a_slow_tail_holds_its_board_back(halves: Two) -> None:
    """However far a board is ahead, no core has more than a few parts of it in memory."""
    halves.ask(BARN, notes=60, bytes=20_000, ahead=60)
    halves.ask(COOP, notes=60, slow_s=0.03)
    most = 0

    def watched() -> bool:
        nonlocal most
        for name in (BARN, COOP):
            found = halves.cores[name].crossings._carry
            for half in found.halves if found is not None else []:
                held = len(half.stream._queue) + len(half.stream._sent)
                most = max(most, held, len(half.stream._early) + half.stream._next - half.stream._taken)
        return halves.done()

    halves.run(watched)
    assert 0 < most <= WINDOW


def test_who_waits_for_a_tail_that_is_busy_is_served_later(halves: Two) -> None:
    """A board whose tail has no time yet says open again and again, and goes on as soon as the tail's job begins."""
    halves.ask(BARN)
    halves.run(lambda: stream(halves, BARN)._open_s >= 8)
    halves.ask(COOP)
    halves.run(halves.done)


@pytest.mark.parametrize(
    ("kind", "split", "words"),
    [
        ("tail", None, "expected job j to name its board"),
        ("tail", {"board": "barn"}, "key: missing"),
        ("train", {"tail": "../x", "key": "k"}, "tail: expected text like"),
        ("train", {"tail": "coop", "key": "edgequilt-hub ed25519 AAAA hub"}, "expected the public key of a device"),
        ("train", "coop", "expected a table"),
    ],
)
def test_a_job_names_its_other_half(kind: str, split: Any, words: str) -> None:
    """A hub that names it wrongly is told what is wrong."""
    with pytest.raises(BadData, match=words):
        other_of("j", kind, {"split": split})


def test_a_job_without_another_half_is_as_it_was() -> None:
    """Nothing of this is in a job that is not split; a split one speaks under the name of the board's."""
    line = new_key("device", "barn").public.line
    assert other_of("j", "train", {}) is None
    assert other_of("j", "evaluate", {"split": "holdout"}) is None
    tail = other_of("r1-train-barn.tail", "tail", {"split": {"board": "barn", "key": line, "labels": "along"}})
    assert tail is not None
    assert (tail.name, tail.job, tail.tail, tail.key.line) == ("barn", "r1-train-barn", False, line)
