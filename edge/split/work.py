"""Split jobs as a worker does them: a board's half, and a tail's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from console.errors import BadData
from devices.split.pace import LINK_S, Pace, planned_of
from edge.assemble import prefix
from edge.chain import Chain
from edge.data import Data
from edge.request import Request, Result, ranks
from edge.runner import Runner
from edge.split.afar import Afar
from edge.split.channel import Channel
from edge.split.desk import serve
from edge.split.front import room_of
from edge.split.job import SplitSettings, session_of, train_front
from edge.split.reading import Reading, reading_of
from edge.split.tail import Session
from edge.split.talk import Talk
from edge.split.told import SETTING, only_helps
from edge.split.wish import Wish, wish_of
from edge.thin import sent_thin
from edge.train import TrainSettings
from edge.training.felt import tag_of
from wire.adapter import Adapter, to_bytes
from wire.files import write_atomic
from wire.kinds.head import ROWS, rows_text
from wire.record import read_record
from wire.thin.table import NONE

SLOW = "slow_link"  # of what a job tells: a sentence
KNOWN_AFTER = 4  # steps, whose mean says how fast a link is
Advance = Callable[[float, float], None]  # done, of
Word = Callable[[str], None]  # for the log of the agent


def split_settings(request: Request) -> SplitSettings:
    """What the hub says of the halves.

    Raises:
        BadData: naming every setting that is wrong.
    """
    known = {k: v for k, v in dict(request.settings[SETTING]).items() if k in SplitSettings.__dataclass_fields__}
    return read_record(SplitSettings, known, f"what job {request.id} says of its halves")


def front(
    runner: Runner,
    request: Request,
    start: Adapter,
    settings: TrainSettings,
    data: Data,
    channel: Channel | None,
    advance: Advance,
    word: Word = lambda text: None,
) -> tuple[bytes, Result]:
    """Train the front with a tail; its update.

    `word` is told once that the link is slower than planned, as soon as some steps say so.

    Raises:
        PeerGone: the tail is not heard, or does not take part.
        BadData: see `edge.train.train`.
    """
    channel, split = _needed(channel, request), split_settings(request)
    planned = planned_of(runner.manifest.plan.extra)
    done, talk = train_front(
        runner,
        start,
        data.train,
        settings,
        channel,
        split,
        request.digests[0],
        lambda step, loss: advance(step, settings.steps),
        request.id,
        paced=_warned(planned, word),
    )
    made, pace = done.adapter, talk.pace(done.session.seconds)
    biases = made.bias if "bias" in settings.kinds else {}
    heads = made.heads if settings.head and split.labels == "stay" else {}
    tag = {**_tag(request), **tag_of(done.importance), **_rows(runner, data if heads else None)}
    update = Adapter(start.model, start.version, made.lora, biases, heads, metadata=tag)
    if settings.thin != NONE and update.lora:
        update = sent_thin(update, start, settings, Path(request.lost) if request.lost else None, Path(request.out))
    metrics: dict[str, Any] = {
        "steps": done.session.at,
        "seconds_per_step": done.seconds_per_step,
        "loss_first": done.losses[0],
        "loss_last": done.losses[-1],
        "rank": made.rank,
        "undone": len(done.session.undone),
        "crossed_up_bytes": talk.sent_bytes,
        "crossed_down_bytes": talk.taken_bytes,
    }
    if split.mode == "steps":
        metrics[LINK_S] = pace.link_s
        slow = pace.slow(planned)
        if slow:
            metrics[SLOW] = slow
    return to_bytes(update), Result(request.id, len(data.train), metrics)


def _warned(planned: Pace | None, word: Word) -> Callable[[int, Pace], None]:
    """Says once what a slow link does."""
    said: list[str] = []

    def paced(steps: int, pace: Pace) -> None:
        slow = pace.slow(planned) if steps >= KNOWN_AFTER and not said else ""
        if slow:
            said.append(slow)
            word(slow)

    return paced


def tail(
    runner: Runner,
    request: Request,
    start: Adapter,
    settings: TrainSettings,
    channel: Channel | None,
    advance: Advance,
) -> Result:
    """Serve a board; its tail's update lies in the request's place before the board hears that it is made.

    Raises:
        PeerGone: the board is not heard any more.
        BadData: what it asks does not fit.
    """
    if only_helps(request.kind, request.settings):
        return _helped(runner, request, start, _needed(channel, request))
    channel, chain = _needed(channel, request), runner.chain
    made: list[Session] = []

    def keep(session: Session) -> None:
        write_atomic(Path(request.out), to_bytes(_of_tail(session, request)), mode=0o600)
        made.append(session)

    def begin(wish: Wish) -> Session:
        _same_version(wish, request)
        return session_of(chain, start, settings, wish, lambda done: advance(done, settings.steps))

    with _with_room(chain):
        serve(channel, begin, keep)
    session = made[0]
    metrics = {
        "steps": session.steps,
        "loss_first": session.losses[0],
        "loss_last": session.losses[1],
        "rank": start.rank,
    }
    return Result(request.id, session.wish.rows, metrics)


@contextmanager
def afar(runner: Runner, request: Request, data: Data, channel: Channel | None) -> Iterator[Runner]:
    """A runner whose features come from the tail of the request; the tail is told when all of them came.

    Raises:
        PeerGone: the tail is not heard, or does not take part.
    """
    talk, coding = Talk(_needed(channel, request)), split_settings(request).coding
    labels = [row.label for row in data.train]  # how many there are is told, and not what they are
    talk.open(wish_of(runner.manifest, request.digests[0], coding, labels, labels=False, back=False))
    runner.close()
    far = Afar(runner, talk)
    try:
        yield far
    finally:
        far.close()
    talk.end()


def _helped(runner: Runner, request: Request, start: Adapter, channel: Channel) -> Result:
    """Give a board the features of its rows; nothing is learned here, and no update made."""
    chain = runner.chain
    adapters = tuple(prefix(start, rank) for rank in ranks(request.kind, request.settings, runner.manifest.plan.rank))

    def begin(wish: Wish) -> Reading:
        _same_version(wish, request)
        return reading_of(chain, adapters, wish)

    with _with_room(chain):
        done = serve(channel, begin, lambda reading: None)
    return Result(request.id, done.wish.rows)


@contextmanager
def _with_room(chain: Chain) -> Iterator[None]:
    """A tail's chain keeps as many sessions as its budget holds, while it serves."""
    chain.room_bytes, chain.within_bytes = room_of(chain.manifest), chain.manifest.plan.budget_bytes
    try:
        yield
    finally:
        chain.close()
        chain.room_bytes = chain.within_bytes = 0


def _same_version(wish: Wish, request: Request) -> None:
    if wish.base != request.digests[0]:
        raise BadData(f"expected version {request.digests[0][:12]} on both sides, found {wish.base[:12]} there")


def _of_tail(session: Session, request: Request) -> Adapter:
    done, classes = session.made(), session.wish.classes
    rows = {ROWS: rows_text(list(classes))} if session.headed and classes else {}
    heads = done.heads if session.headed else {}
    told = {} if session.felt is None else session.felt.told
    tag = {**_tag(request), **rows, **tag_of(told)}
    return Adapter(done.model, done.version, done.lora, done.bias, heads, metadata=tag)


def _rows(runner: Runner, data: Data | None) -> dict[str, str]:
    """How many rows of each class taught a head, if one was taught here."""
    if data is None:
        return {}
    labels = [row.label for row in data.train]
    return {ROWS: rows_text(np.bincount(labels, minlength=len(runner.manifest.labels)).tolist())}


def _tag(request: Request) -> dict[str, str]:
    return {"job": request.id, "round": str(request.round)}


def _needed(channel: Channel | None, request: Request) -> Channel:
    if channel is None:
        raise BadData(f"expected a way to the other half of {request.id}, found none; restart the agent")
    return channel
