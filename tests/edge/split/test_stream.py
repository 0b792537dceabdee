"""Two sides of a stream over a network that loses, repeats and reorders, on a clock that the test moves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.split.stream import ANEW, GONE_S, WINDOW, Stream
from wire.messages import Crossing, Peer, Sender

SENDER = Sender("barn", "boot", 1)


def part(number: int, data: bytes = b"x") -> dict[str, Any]:
    """One part of a note of one part."""
    return {"what": "forth", "step": number, "micro": 0, "part": 0, "parts": 1, "fields": {}, "data": data}


@dataclass
class Wire:
    """A line between two streams. `lose`, `repeat` and `late_s` are drawn for each message."""

    seed: int = 0
    lose: float = 0.0
    repeat: float = 0.0
    late_s: float = 0.0
    now_s: float = 0.0
    greedy: bool = True  # workers take at once
    sides: list[Stream] = field(default_factory=list)
    came: list[list[int]] = field(default_factory=lambda: [[], []])
    under_way: list[tuple[float, int, Any]] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.sides = self.sides or [Stream(self.now_s), Stream(self.now_s)]

    def turn(self, seconds: float = 0.5) -> None:
        """Time passes; what is due is said, what is on its way comes."""
        self.now_s += seconds
        for index, side in enumerate(self.sides):
            side.look(self.now_s)
            self.carry(index)
        due = [one for one in self.under_way if one[0] <= self.now_s]
        self.under_way = [one for one in self.under_way if one[0] > self.now_s]
        self.draw.shuffle(due)
        for _, index, message in due:
            self.sides[index].heard(message, self.now_s)
            self.carry(index)
            self.hand_over(index)

    def carry(self, index: int) -> None:
        for kind, fields in self.sides[index].out:
            message = kind(sender=SENDER, job="j", **fields)
            self.said.append(message)
            if self.draw.random() < self.lose:
                continue
            for _ in range(2 if self.draw.random() < self.repeat else 1):
                self.under_way.append((self.now_s + self.draw.random() * self.late_s, 1 - index, message))
        self.sides[index].out.clear()

    def hand_over(self, index: int) -> None:
        side = self.sides[index]
        if not self.greedy:
            return
        for one in side.parts:
            self.came[index].append(one["step"])
            side.took(self.now_s)
        side.parts.clear()
        self.carry(index)

    def run(self, turns: int, seconds: float = 0.5) -> Iterator[int]:
        for number in range(turns):
            self.turn(seconds)
            yield number


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 16),
    lose=st.floats(0, 0.4),
    repeat=st.floats(0, 0.5),
    late_s=st.floats(0, 20),
    counts=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_all_comes_once_and_in_order(
    seed: int, lose: float, repeat: float, late_s: float, counts: tuple[int, int]
) -> None:
    """Whatever the line does, each side gets what the other one said: all of it, in this order, each part once."""
    line = Wire(seed, lose, repeat, late_s)
    for index, count in enumerate(counts):
        for number in range(count):
            line.sides[index].say(part(number), 0.0)
    for _ in line.run(20_000):
        if [len(line.came[1]), len(line.came[0])] == list(counts) and all(s.settled for s in line.sides):
            break
    assert [line.came[1], line.came[0]] == [list(range(count)) for count in counts]
    assert not any(side.gone for side in line.sides)


def test_no_more_is_said_than_is_taken() -> None:
    """While a worker takes nothing the other side keeps what is beyond the credit; afterwards all of it comes."""
    line = Wire(greedy=False)
    for number in range(5 * WINDOW):
        line.sides[0].say(part(number), 0.0)
    for _ in line.run(200):
        pass
    assert len(line.sides[1].parts) == WINDOW
    assert {m.number for m in line.said if isinstance(m, Crossing)} == set(range(WINDOW))
    assert line.sides[0].answered == WINDOW

    line.greedy = True
    line.hand_over(1)
    for _ in line.run(200):
        pass
    assert line.came[1] == list(range(5 * WINDOW))


def test_a_side_that_lies_about_credits_gets_no_more_than_some() -> None:
    """A credit beyond all bounds is worth one window, and one below what was answered is worth nothing."""
    line = Wire()
    for _ in line.run(5):
        pass
    side = line.sides[0]
    ours: dict[str, Any] = {"stream": side.peer, "answers": side.own, "sender": SENDER, "job": "j"}
    for number in range(20 * WINDOW):
        side.say(part(number), line.now_s)
    side.heard(Peer(what="credit", fields={"next": 0, "until": 1 << 60}, **ours), line.now_s)
    side.heard(Peer(what="credit", fields={"next": 1 << 60, "until": 1 << 60}, **ours), line.now_s)
    side.heard(Peer(what="credit", fields={"next": -1, "until": "x"}, **ours), line.now_s)
    assert len([1 for kind, _ in side.out if kind is Crossing]) <= WINDOW
    assert side.answered == 0


def test_parts_from_far_ahead_are_not_kept() -> None:
    """What is beyond the credit that was given takes no memory, whatever its number and however often it comes."""
    line = Wire(greedy=False)
    for _ in line.run(5):
        pass
    side = line.sides[1]
    for number in range(1, 10 * WINDOW):
        crossing = Crossing(SENDER, "j", side.peer, side.own, number, "forth", data=b"x")
        side.heard(crossing, line.now_s)
    assert len(side._early) == WINDOW - 1
    assert side.parts == []


def test_what_an_earlier_start_said_is_nobody() -> None:
    """Messages of a side that was there before, also its open, do not lead to a stream; the one that is there does."""
    before = Stream(0.0)
    stale = [Peer(SENDER, "j", before.own, what="open", fields={"next": 0, "until": 8})]
    stale += [Peer(SENDER, "j", before.own, what="credit", answers="0" * 16, fields={"next": 0, "until": 8})]
    line = Wire()
    for message in stale:
        line.sides[1].heard(message, 0.0)
    line.sides[1].heard(Crossing(SENDER, "j", before.own, "0" * 16, 0, "forth", data=b"old"), 0.0)
    line.sides[0].say(part(7), 0.0)
    for _ in line.run(20):
        pass
    for message in stale:
        line.sides[1].heard(message, line.now_s)
    assert line.came[1] == [7]
    assert not line.sides[1].gone
    assert line.sides[1].stale == 3


def test_a_side_that_begins_anew_ends_the_other() -> None:
    """When one half is started again in the middle, both learn that this turn is lost, within seconds."""
    line = Wire()
    line.sides[0].say(part(0), 0.0)
    for _ in line.run(10):
        pass
    line.sides[0] = Stream(line.now_s)
    for _ in line.run(10):
        pass
    assert [side.gone for side in line.sides] == [ANEW, ANEW]


def test_who_ends_well_has_said_all() -> None:
    """A worker that ends right after its last word: the word comes all the same, over a line that loses a third."""
    for seed in range(20):
        line = Wire(seed, lose=0.33, late_s=3)
        for number in range(12):
            line.sides[1].say(part(number), 0.0)
        line.sides[1].end()
        for _ in line.run(20_000):
            if line.sides[1].gone:
                break
        assert line.came[0] == list(range(12))
        assert line.sides[1].gone == "ended"


def test_who_fails_says_why_at_once() -> None:
    """The reason comes to the other side, and also to one that opens when all is over."""
    line = Wire()
    for _ in line.run(5):
        pass
    line.sides[1].end("no memory")
    line.turn()
    line.turn()
    assert line.sides[0].gone == "no memory"

    line.sides[0] = Stream(line.now_s)
    for _ in line.run(5):
        pass
    assert line.sides[0].gone == "no memory"


@pytest.mark.parametrize("established", [True, False])
def test_silence_has_an_end(established: bool) -> None:
    """A side that was there and is heard no more is gone after some minutes; one that never came is waited for."""
    line = Wire()
    if established:
        for _ in line.run(5):
            pass
    line.lose = 1.0
    for _ in line.run(int(2 * GONE_S)):
        line.turn(0.5)
    assert bool(line.sides[0].gone) == established


def test_a_slow_line_is_not_filled_with_repetitions() -> None:
    """Where each part takes 20 s on its way, hardly any is said twice."""
    side, other, now = Stream(0.0), Stream(0.0), 0.0
    free_at, under_way = 0.0, list[tuple[float, Any]]()
    for number in range(40):
        side.say(part(number), 0.0)
    got = list[int]()
    while now < 2000:
        now += 0.5
        side.look(now)
        for kind, fields in side.out:
            free_at = max(free_at, now) + (20.0 if kind is Crossing else 0.01)
            under_way.append((free_at, kind(sender=SENDER, job="j", **fields)))
        side.out.clear()
        for at, message in [one for one in under_way if one[0] <= now]:
            under_way.remove((at, message))
            other.heard(message, now)
        got += [one["step"] for one in other.parts]
        for _ in other.parts:
            other.took(now)
        other.parts.clear()
        for kind, fields in other.out:
            side.heard(kind(sender=SENDER, job="j", **fields), now)
        other.out.clear()
    assert got == list(range(40))
    assert side.repeated < 10
