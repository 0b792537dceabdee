"""A front with a tail elsewhere learns what the whole model would have learned in one place."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import BadData
from devices.split.pace import Pace
from edge.chain import Chain
from edge.data.row import Row
from edge.request import Place, Request
from edge.runner import Runner
from edge.split import work as split_work
from edge.split.channel import Channel, Ends, Note, PeerGone
from edge.split.front import room_of
from edge.split.job import SplitSettings, train_front
from edge.split.wish import wish_of
from edge.train import TrainSettings, train
from tests.edge.split.halves import SILENCE_S, Listened, beside, front_of, whole
from tests.edge.test_gradients import random_adapter, rows
from wire.activations import Coding
from wire.manifest import Measured

SETTINGS = TrainSettings(steps=5, batch=4, learning_rate=0.02, head=True)


def _rows(kind: str) -> list[Row]:
    words = ("red sun", "blue sea", "green leaf", "red leaf", "sea", "sun sun blue", "leaf")
    return rows(7) if kind == "image" else [Row(text, i % 3) for i, text in enumerate(words)]


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize(("segments", "depth"), [((1, 1, 1), 1), ((1, 1, 1), 2), ((2, 1), 1)])
def test_both_halves_together_are_the_whole(tmp_path: Path, segments: tuple[int, ...], depth: int, kind: str) -> None:
    """Factors of the front and of the tail, the head and all losses are those of a board that holds everything."""
    bundle = whole(tmp_path, segments, kind=kind)
    start, given = random_adapter(bundle.manifest), _rows(kind)
    alone = train(Runner(bundle), start, given, SETTINGS)

    exact = SplitSettings(coding="float32")
    (done, talk), tail = beside(
        bundle,
        start,
        SETTINGS,
        lambda channel: train_front(
            Runner(front_of(bundle, depth)), start, given, SETTINGS, channel, exact, silence_s=SILENCE_S
        ),
    )

    assert tail.problems == []
    made = tail.made[0].made()
    assert set(done.adapter.lora) | set(made.lora) == set(alone.adapter.lora)
    assert not set(done.adapter.lora) & set(made.lora)
    for name, lora in {**done.adapter.lora, **made.lora}.items():
        assert np.allclose(lora.a, alone.adapter.lora[name].a, atol=1e-5)
        assert np.allclose(lora.b, alone.adapter.lora[name].b, atol=1e-5)
    assert made.head is not None
    assert alone.adapter.head is not None
    assert np.allclose(made.head.weight, alone.adapter.head.weight, atol=1e-5)
    assert done.losses == pytest.approx(alone.losses, rel=1e-5)
    assert tail.made[0].steps == SETTINGS.steps == talk.step


def test_both_halves_tell_what_the_whole_would(tmp_path: Path) -> None:
    """How much every slot matters is told by the half that holds it, as a board that holds everything tells it."""
    bundle, settings = whole(tmp_path), replace(SETTINGS, importance=True)
    start, given = random_adapter(bundle.manifest), rows(8)
    alone = train(Runner(bundle), start, given, settings)

    (done, _), tail = beside(
        bundle,
        start,
        settings,
        lambda channel: train_front(
            Runner(front_of(bundle, 1)), start, given, settings, channel, SplitSettings(coding="float32")
        ),
    )

    assert tail.made[0].felt is not None
    assert {**done.importance, **tail.made[0].felt.told} == pytest.approx(dict(alone.importance), rel=1e-4)
    assert len(done.importance) == 1


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("depth", [1, 2])
def test_labels_that_stay_teach_the_same(tmp_path: Path, depth: int, head: bool) -> None:
    """The board has the head and the labels: both halves, the head and the losses are those of the whole model."""
    bundle = whole(tmp_path, from_features=True)
    start, given, settings = random_adapter(bundle.manifest), rows(7), replace(SETTINGS, head=head)
    alone = train(Runner(bundle), start, given, settings)
    stay = SplitSettings(coding="float32", labels="stay")
    said = list[Note]()

    def act(channel: Channel) -> Any:
        listened = Listened(channel, said)
        return train_front(Runner(front_of(bundle, depth)), start, given, settings, listened, stay, silence_s=SILENCE_S)

    (done, _), tail = beside(bundle, start, settings, act)

    assert tail.problems == []
    for name, lora in {**done.adapter.lora, **tail.made[0].made().lora}.items():
        assert np.allclose(lora.a, alone.adapter.lora[name].a, atol=1e-5)
        assert np.allclose(lora.b, alone.adapter.lora[name].b, atol=1e-5)
    assert done.adapter.head is not None
    assert alone.adapter.head is not None
    assert np.allclose(done.adapter.head.weight, alone.adapter.head.weight, atol=1e-5)
    assert done.losses == pytest.approx(alone.losses, rel=1e-5)
    assert said[0].fields["classes"] == []
    assert not any(b"labels" in note.data[:200] or b"weights" in note.data[:200] for note in said)


def test_a_tail_without_a_way_back_from_features_says_so(tmp_path: Path) -> None:
    """Labels cannot stay where the export has no such graph; the board reads what to do."""
    bundle = whole(tmp_path)
    start, stay = random_adapter(bundle.manifest), SplitSettings(labels="stay")

    def act(channel: Channel) -> None:
        with pytest.raises(PeerGone, match="expected a tail with a way back from features, found none; let labels"):
            train_front(Runner(front_of(bundle, 1)), start, rows(4), SETTINGS, channel, stay)
        channel.send(Note("gone"))

    beside(bundle, start, SETTINGS, act)


@pytest.mark.parametrize(("coding", "share"), [("float16", 0.02), ("int8", 0.2)])
def test_coded_activations_are_near(tmp_path: Path, coding: Coding, share: float) -> None:
    """What is learned with fewer bits differs by a small share of what is learned, and crosses in fewer bytes."""
    bundle = whole(tmp_path)
    start, given = random_adapter(bundle.manifest), rows(8)
    alone = train(Runner(bundle), start, given, SETTINGS)

    (done, _), tail = beside(
        bundle,
        start,
        SETTINGS,
        lambda channel: train_front(
            Runner(front_of(bundle, 1)), start, given, SETTINGS, channel, SplitSettings(coding=coding)
        ),
    )

    assert tail.problems == []
    for name, lora in {**done.adapter.lora, **tail.made[0].made().lora}.items():
        moved = np.linalg.norm(alone.adapter.lora[name].a - start.lora[name].a)
        assert 0 < np.linalg.norm(lora.a - alone.adapter.lora[name].a) < share * moved


def test_a_step_without_a_finite_loss_is_undone_on_both_sides(tmp_path: Path) -> None:
    """Both halves go back, halve the rate and go on: they have done the same steps in the end."""
    bundle = whole(tmp_path)
    start, given = random_adapter(bundle.manifest), rows(8)
    for lora in start.lora.values():
        lora.b[:] *= 1e3
    wild = TrainSettings(steps=12, batch=4, learning_rate=1e38, head=True)

    (done, talk), tail = beside(
        bundle,
        start,
        wild,
        lambda channel: train_front(
            Runner(front_of(bundle, 1)), start, given, wild, channel, SplitSettings(coding="float32")
        ),
    )

    assert tail.problems == []
    assert done.session.undone
    assert talk.step == done.session.at
    assert all(np.isfinite(lora.a).all() for lora in tail.made[0].made().lora.values())


def test_a_tail_that_is_silent_is_a_sentence(tmp_path: Path) -> None:
    """The board does not wait for ever."""
    bundle = whole(tmp_path)
    start = random_adapter(bundle.manifest)
    with pytest.raises(PeerGone, match="expected opened of the other half within 0 s, found nothing"):
        train_front(
            Runner(front_of(bundle, 1)),
            start,
            rows(4),
            SETTINGS,
            Ends().board,
            SplitSettings(),
            silence_s=0.05,
        )


class Slowly:
    """A channel over which every answer takes a while."""

    def __init__(self, channel: Channel, seconds: float) -> None:
        self.channel, self.seconds = channel, seconds

    def send(self, note: Note) -> None:
        """Pass it on."""
        self.channel.send(note)

    def receive(self, timeout_s: float) -> Note | None:
        """What came, later."""
        time.sleep(self.seconds)
        return self.channel.receive(timeout_s)


def test_a_link_that_is_slower_than_planned_is_a_sentence(tmp_path: Path) -> None:
    """A job tells what of a step the link took, without what the tail computed, and says so where that is too much."""
    bundle, settings = whole(tmp_path), replace(SETTINGS, steps=3)
    start, split = random_adapter(bundle.manifest), SplitSettings(coding="float32")
    (done, talk), _ = beside(
        bundle,
        start,
        settings,
        lambda channel: train_front(Runner(front_of(bundle, 1)), start, rows(8), settings, Slowly(channel, 0.2), split),
    )
    pace, planned = talk.pace(done.session.seconds), Pace(0.01, 0.001)
    assert 0 < talk.tail_s < talk.waited_s
    assert pace.link_s * talk.step == pytest.approx(talk.waited_s - talk.tail_s)
    assert pace.step_s >= pace.link_s > 0
    assert re.match(r"its link takes .+ of a step, planned were 1 ms: .+--split-mode local", pace.slow(planned))


@pytest.mark.parametrize(("planned_s", "times"), [(0.001, 1), (60.0, 0)])
def test_a_slow_link_is_said_within_the_job_once(tmp_path: Path, planned_s: float, times: int) -> None:
    """After some steps, before the last one, and no word of a link as fast as planned."""
    bundle, settings = whole(tmp_path), replace(SETTINGS, steps=split_work.KNOWN_AFTER + 2)
    start, split, said, done = random_adapter(bundle.manifest), SplitSettings(coding="float32"), list[str](), [0]
    heard = list[int]()

    def advance(steps: int, loss: float) -> None:
        done[0] = steps

    def word(text: str) -> None:
        said.append(text)
        heard.append(done[0])

    paced = split_work._warned(Pace(2 * planned_s, planned_s), word)  # what a front's job is told by

    def act(channel: Channel) -> None:
        slowed, front = Slowly(channel, 0.05), Runner(front_of(bundle, 1))
        train_front(front, start, rows(8), settings, slowed, split, advance=advance, paced=paced)

    beside(bundle, start, settings, act)
    assert (len(said), heard) == (times, [split_work.KNOWN_AFTER] * times)
    assert all(text.startswith("its link takes ") for text in said)


def test_a_tail_that_is_too_slow_to_hear_is_said_with_what_to_do(tmp_path: Path) -> None:
    """Where nothing comes back of a micro-batch, the sentence says how much was sent, and what would be less."""
    bundle = whole(tmp_path)

    class Deaf(Slowly):
        def receive(self, timeout_s: float) -> Note | None:
            found = self.channel.receive(20)
            return found if found is not None and found.what == "opened" else None

    def act(channel: Channel) -> None:
        front = Runner(front_of(bundle, 1))
        with pytest.raises(PeerGone, match=r"the link is too slow for \d+ B at a time: .*--split-mode local"):
            train_front(front, random_adapter(bundle.manifest), rows(4), SETTINGS, Deaf(channel, 0), SplitSettings())
        channel.send(Note("end"))

    beside(bundle, random_adapter(bundle.manifest), SETTINGS, act)


def test_open_sessions_leave_room_for_what_a_worker_holds_beside_them(tmp_path: Path) -> None:
    """Sessions that stay open have the budget, less what the plan has beside its largest one."""
    bundle = whole(tmp_path)
    plan = replace(bundle.manifest.plan, budget_bytes=100, predicted_bytes=80)
    sizes = iter(range(1, 1000))
    segments = tuple(
        replace(s, graphs=tuple(replace(g, memory=Measured(20 + next(sizes), None, 20)) for g in s.graphs))
        for s in bundle.manifest.segments
    )
    largest = next(sizes) - 1
    assert room_of(replace(bundle.manifest, plan=plan, segments=segments)) == 100 - (80 - largest)


@pytest.mark.parametrize(("within", "fewest", "most"), [(1, 1, 1), (1 << 50, 3, 6), (0, 3, 6)])
def test_no_session_is_opened_beside_others_above_the_budget(
    tmp_path: Path, within: int, fewest: int, most: int
) -> None:
    """Whatever is predicted of sessions, what the process has taken decides whether one more may be open."""
    bundle = whole(tmp_path)
    runner = Runner(bundle)
    runner.chain = Chain(bundle, room_bytes=1 << 40)
    runner.chain.within_bytes = within
    runner.gradients(rows(4), random_adapter(bundle.manifest))
    assert fewest <= runner.chain.opened <= most


def test_nothing_lies_beside_a_segment_that_goes_back_but_what_is_still_read(tmp_path: Path) -> None:
    """What only later segments read is let go of on the way back: of each micro-batch, numbers and their gradients."""
    bundle, seen = whole(tmp_path), list[tuple[int, set[str], set[str]]]()

    class Watched(Chain):
        def _backward(self, segment: Any, graph: Any, values: Any, shared: Any, cotangents: Any, sums: Any) -> None:
            at = self.manifest.segments.index(segment)
            seen.append((at, set().union(*values), set().union(*cotangents)))
            super()._backward(segment, graph, values, shared, cotangents, sums)

    runner = Runner(bundle)
    runner.chain = Watched(bundle)
    runner.gradients(rows(4), random_adapter(bundle.manifest))
    assert [at for at, _, _ in seen] == [2, 1, 0]
    for at, values, gradients in seen:
        segments = bundle.manifest.segments
        assert values <= {name for s in segments[: at + 1] for name in s.inputs} | {"labels", "weights"}
        assert gradients == ({f"grad.{name}" for name in segments[at].outputs} if at < 2 else set())


def test_a_tail_serves_no_board_of_another_version(tmp_path: Path) -> None:
    """Halves of one update start from one version; the board hears the reason."""
    bundle, ends = whole(tmp_path), Ends()
    start = random_adapter(bundle.manifest)
    request = Request("r1-train-barn.tail", "tail", 1, ("a" * 64,), (), Place("", "", "", 0.0, ""), "")
    ends.board.send(Note("open", fields=wish_of(front_of(bundle, 1).manifest, "b" * 64, "int8").fields()))
    with pytest.raises(BadData, match="expected version aaaaaaaaaaaa on both sides, found bbbbbbbbbbbb there"):
        split_work.tail(Runner(bundle), request, start, SETTINGS, ends.tail, lambda done, of: None)
    heard = ends.board.receive(1)
    assert heard is not None
    assert (heard.what, "on both sides" in heard.fields["reason"]) == ("refused", True)


def test_another_cut_is_refused(tmp_path: Path) -> None:
    """A tail that has no cut where the front ends says which ones it has, and the board passes it on."""
    bundle, other = whole(tmp_path / "a", (1, 1, 1)), whole(tmp_path / "b", (1, 2))
    start = random_adapter(bundle.manifest)

    def act(channel: Channel) -> None:
        with pytest.raises(PeerGone, match=r"expected a cut where cut1.0 cross, found cuts at cut0.0; export"):
            train_front(Runner(front_of(bundle, 2)), start, rows(4), SETTINGS, channel, SplitSettings())

    _, tail = beside(other, start, SETTINGS, act)
    assert len(tail.problems) == 1


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (Note("forth", 3, 0, {"bucket": "train"}, b""), "expected step 0 of the board, found 3"),
        (Note("forth", 0, 0, {"bucket": "no"}, b""), "expected micro-batches that the tail has graphs for"),
        (Note("forth", 0, 0, {"bucket": "train"}, b"xx"), "cut short"),
        (Note("opened"), "expected a micro-batch or the end of a step"),
    ],
)
def test_what_does_not_belong_to_a_session_is_refused(tmp_path: Path, note: Note, words: str) -> None:
    """Another step, another bucket, bytes that are no tensors: one sentence to the board, and the end."""
    bundle = whole(tmp_path)
    start = random_adapter(bundle.manifest)

    def act(channel: Channel) -> Note | None:
        from edge.split.wish import wish_of

        channel.send(Note("open", fields=wish_of(front_of(bundle, 1).manifest, "", "int8").fields()))
        assert channel.receive(20) is not None
        channel.send(note)
        return channel.receive(20)

    answer, tail = beside(bundle, start, SETTINGS, act)
    assert answer.what == "refused"
    assert words in answer.fields["reason"]
    with pytest.raises(BadData, match=words):
        raise BadData(tail.problems[0])
