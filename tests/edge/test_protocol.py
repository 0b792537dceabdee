"""The agent's life as a table."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import protocol as p
from wire.messages import Job, JobKind, Release

EVENTS = (
    *(p.Connected, p.Lost, p.JobCame, p.Cancelled, p.Looked, p.ReleaseCame, p.ReleaseLooked, p.Stored),
    *(p.Computed, p.Crashed, p.Wanted, p.Receipted, p.Due),
)
BLOB, VERSION = "b" * 64, "v" * 64


def job(name: str = "r1-train-barn-1", kind: JobKind = "train") -> Job:
    """A job."""
    return Job("barn-1", name, kind, 1, (VERSION,))


def after(*events: object, life: p.Life | None = None) -> tuple[p.Life, list[Any]]:
    """The life after some events, and the actions of the last one."""
    life, actions = life or p.Life(connected=True), ()
    for event in events:
        life, actions = p.step(life, event)
    return life, list(actions)


def test_the_table_is_complete() -> None:
    """Every event has a row in every phase, and no row is for anything else."""
    for phase in (p.IDLE, p.FETCHING, p.COMPUTING):
        assert set(p.TABLE[phase]) == set(EVENTS)
    assert set(get_args(JobKind)) == {"train", "statistics", "evaluate"}


def test_a_job_goes_its_way() -> None:
    """Look, fetch, look again, compute, send, forget: one action after the other, and the job is finished."""
    j = job()
    life, actions = after(p.JobCame(j))
    assert (life.phase, actions) == (p.FETCHING, [p.Look(j)])
    life, actions = after(p.Looked(j.job, frozenset({BLOB})), life=life)
    assert actions == [p.Ask(frozenset({BLOB}))]
    life, actions = after(p.Stored(BLOB), life=life)
    assert actions == [p.Look(j)]
    life, actions = after(p.Looked(j.job, frozenset()), life=life)
    assert (life.phase, actions) == (p.COMPUTING, [p.Compute(j)])
    life, actions = after(p.Computed(j.job, "u"), life=life)
    assert (life.phase, actions) == (p.IDLE, [p.Send("u", indexes=None)])
    life, actions = after(p.Receipted("u", "accepted", ""), life=life)
    assert actions == [p.Forget("u", "accepted", "")]
    assert life == p.Life(connected=True, finished=frozenset({j.job}))


FETCHING = (p.JobCame(job()), p.Looked(job().job, frozenset({BLOB})))
COMPUTING = (p.JobCame(job()), p.Looked(job().job, frozenset()))
WAITING = (*COMPUTING, p.Computed(job().job, "u"))
ANSWERS: dict[str, tuple[tuple[object, ...], list[object]]] = {
    "a job that runs comes again": ((*COMPUTING, p.JobCame(job())), []),
    "a job that waits for its receipt comes again": ((*WAITING, p.JobCame(job())), [p.Send("u")]),
    "a job with a receipt comes again": ((*WAITING, p.Receipted("u", "accepted", ""), p.JobCame(job())), []),
    "a job that failed comes again": (
        (*COMPUTING, p.Crashed(job().job, "why"), p.JobCame(job())),
        [p.SayFailed(job().job, "why")],
    ),
    "a second job while one runs": ((*COMPUTING, p.JobCame(job("two"))), []),
    "the first job is done while another waits": (
        (*COMPUTING, p.JobCame(job("two")), p.Computed(job().job, "u")),
        [p.Send("u", indexes=None), p.Look(job("two"))],
    ),
    "the running job is cancelled": ((*COMPUTING, p.Cancelled(job().job)), [p.StopWorker()]),
    "a waiting job is cancelled": ((*COMPUTING, p.JobCame(job("two")), p.Cancelled("two")), []),
    "chunks are missing": ((*WAITING, p.Wanted("u", (1, 2), False)), [p.Send("u", False, (1, 2))]),
    "even the beginning is missing": ((*WAITING, p.Wanted("u", (), True)), [p.Send("u", True, None)]),
    "chunks of a forgotten update are missing": ((p.Wanted("u", (1,), False),), []),
    "a receipt for something unknown": ((p.Receipted("u", "accepted", ""),), []),
    "a refused update is forgotten too": (
        (*WAITING, p.Receipted("u", "refused", "no")),
        [p.Forget("u", "refused", "no")],
    ),
    "no receipt came": ((*WAITING, p.Due("u")), [p.Send("u")]),
    "no blob came": ((*FETCHING, p.Due()), [p.Ask(frozenset({BLOB}))]),
    "no blob came, but there is no connection": ((*FETCHING, p.Lost(), p.Due()), []),
    "the connection is back while an update waits": ((*WAITING, p.Lost(), p.Connected()), [p.SayHello(), p.Send("u")]),
    "the connection is back while blobs are lacking": (
        (*FETCHING, p.Connected()),
        [p.SayHello(), p.Ask(frozenset({BLOB}))],
    ),
    "a blob that nobody lacks": ((*FETCHING, p.Stored("c" * 64)), []),
    "a job whose blobs cannot be had": (
        (*FETCHING, p.JobCame(job("two")), p.Crashed(job().job, "why")),
        [p.SayFailed(job().job, "why"), p.Look(job("two"))],
    ),
}


@pytest.mark.parametrize(("events", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_answers(events: tuple[object, ...], expected: list[object]) -> None:
    """The last of some events has exactly these actions."""
    assert after(*events)[1] == expected


def test_a_release_is_served_when_all_of_it_is_here() -> None:
    """A release is looked up, fetched and served beside a job; a later release takes its place."""
    first, second = (Release("tiny", n, n, str(n) * 64) for n in (1, 2))
    life, actions = after(*COMPUTING, p.ReleaseCame(first))
    assert actions == [p.LookRelease(first)]
    life, actions = after(p.ReleaseLooked(first.digest, frozenset({BLOB})), life=life)
    assert actions == [p.Ask(frozenset({BLOB}))]
    life, _ = after(p.ReleaseCame(second), life=life)
    assert after(p.ReleaseLooked(first.digest, frozenset()), life=life)[1] == []
    life, actions = after(p.ReleaseLooked(second.digest, frozenset()), life=life)
    assert (life.release, life.phase, actions) == (None, p.COMPUTING, [p.Serve(second), p.SayHello()])


NAMES = st.sampled_from(["one", "two", "three"])
ANY_EVENT = st.one_of(
    st.builds(lambda n: p.JobCame(job(n)), NAMES),
    st.builds(p.Cancelled, NAMES),
    st.builds(p.Looked, NAMES, st.sampled_from([frozenset(), frozenset({BLOB})])),
    st.just(p.Stored(BLOB)),
    st.builds(lambda n: p.Computed(n, f"update of {n}"), NAMES),
    st.builds(p.Crashed, NAMES, st.just("why")),
    st.builds(lambda n: p.Wanted(f"update of {n}", (0,), False), NAMES),
    st.builds(lambda n: p.Receipted(f"update of {n}", "accepted", ""), NAMES),
    st.sampled_from([p.Connected(), p.Lost(), p.Due(), p.Due("update of one")]),
)


@given(st.lists(ANY_EVENT, max_size=40))
def test_in_any_order_nothing_is_done_twice_or_lost(events: list[Any]) -> None:
    """After any events: one job at a time, none that is done is computed, and only a receipt ends the waiting."""
    life, running = p.Life(), list[str]()
    for event in events:
        if isinstance(event, p.Computed) and event.job not in running:
            continue  # a worker answers only for what it was given
        before = life
        life, actions = p.step(life, event)
        computed = [a.job.job for a in actions if isinstance(a, p.Compute)]
        done = before.finished | set(before.waiting.values()) | before.failed.keys()
        assert not set(computed) & done
        assert before.phase != p.COMPUTING or not computed
        if isinstance(event, (p.Computed, p.Crashed, p.Cancelled)):
            running = [n for n in running if n != event.job]
        running += computed
        assert len(running) <= 1
        assert (life.phase == p.IDLE) == (life.job is None)
        lost = before.waiting.keys() - life.waiting.keys()
        assert not lost or (isinstance(event, p.Receipted) and lost == {event.update})
        assert before.finished <= life.finished
