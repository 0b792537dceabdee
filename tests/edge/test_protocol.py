"""The agent's life as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import events as ev
from edge import protocol as p
from edge.masks import SUFFIX
from wire.messages import Job, JobKind, MaskSealed, Release

EVENTS = (
    *(ev.Connected, ev.Lost, ev.JobCame, ev.Cancelled, ev.Looked, ev.ReleaseCame, ev.ReleaseLooked, ev.Stored),
    *(ev.Computed, ev.Kept, ev.MaskCame, ev.Crashed, ev.Wanted, ev.Receipted, ev.StillWaits, ev.Due, ev.BundleNamed),
    *(ev.ProgramNamed, ev.Helped, ev.KeysCame, ev.StandingCame),
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
    assert set(get_args(JobKind)) == {"train", "statistics", "evaluate", "tail", "fix"}


def test_a_job_goes_its_way() -> None:
    """Look, fetch, look again, compute, send, forget: one action after the other, and the job is finished."""
    j = job()
    life, actions = after(ev.JobCame(j))
    assert (life.phase, actions) == (p.FETCHING, [ev.Look(j)])
    life, actions = after(ev.Looked(j.job, frozenset({BLOB})), life=life)
    assert actions == [ev.Ask(frozenset({BLOB}))]
    life, actions = after(ev.Stored(BLOB), life=life)
    assert actions == [ev.Look(j)]
    life, actions = after(ev.Looked(j.job, frozenset()), life=life)
    assert (life.phase, actions) == (p.COMPUTING, [ev.Compute(j)])
    life, actions = after(ev.Computed(j.job, "u"), life=life)
    assert (life.phase, actions) == (p.IDLE, [ev.Send("u", indexes=None)])
    life, actions = after(ev.Receipted("u", "accepted", ""), life=life)
    assert actions == [ev.Forget("u", "accepted", "")]
    assert life == p.Life(connected=True, finished=frozenset({j.job}))


FETCHING = (ev.JobCame(job()), ev.Looked(job().job, frozenset({BLOB})))
COMPUTING = (ev.JobCame(job()), ev.Looked(job().job, frozenset()))
WAITING = (*COMPUTING, ev.Computed(job().job, "u"))
ANSWERS: dict[str, tuple[tuple[object, ...], list[object]]] = {
    "a job that runs comes again": ((*COMPUTING, ev.JobCame(job())), []),
    "a job that waits for its receipt comes again": ((*WAITING, ev.JobCame(job())), [ev.Send("u")]),
    "a job with a receipt comes again": ((*WAITING, ev.Receipted("u", "accepted", ""), ev.JobCame(job())), []),
    "a job that failed comes again": (
        (*COMPUTING, ev.Crashed(job().job, "why"), ev.JobCame(job())),
        [ev.SayFailed(job().job, "why")],
    ),
    "a second job while one runs": ((*COMPUTING, ev.JobCame(job("two"))), []),
    "the first job is done while another waits": (
        (*COMPUTING, ev.JobCame(job("two")), ev.Computed(job().job, "u")),
        [ev.Send("u", indexes=None), ev.Look(job("two"))],
    ),
    "the running job is cancelled": ((*COMPUTING, ev.Cancelled(job().job)), [ev.StopWorker()]),
    "a waiting job is cancelled": ((*COMPUTING, ev.JobCame(job("two")), ev.Cancelled("two")), []),
    "chunks are missing": ((*WAITING, ev.Wanted("u", (1, 2), False)), [ev.Send("u", False, (1, 2))]),
    "even the beginning is missing": ((*WAITING, ev.Wanted("u", (), True)), [ev.Send("u", True, None)]),
    "chunks of a forgotten update are missing": ((ev.Wanted("u", (1,), False),), []),
    "a receipt for something unknown": ((ev.Receipted("u", "accepted", ""),), []),
    "a refused update is forgotten too": (
        (*WAITING, ev.Receipted("u", "refused", "no")),
        [ev.Forget("u", "refused", "no")],
    ),
    "no receipt came": ((*WAITING, ev.Due("u")), [ev.Send("u")]),
    "no blob came": ((*FETCHING, ev.Due()), [ev.Ask(frozenset({BLOB}))]),
    "no blob came, but there is no connection": ((*FETCHING, ev.Lost(), ev.Due()), []),
    "the connection is back while an update waits": (
        (*WAITING, ev.Lost(), ev.Connected()),
        [ev.SayHello(), ev.Send("u")],
    ),
    "the connection is back while blobs are lacking": (
        (*FETCHING, ev.Connected()),
        [ev.SayHello(), ev.Ask(frozenset({BLOB}))],
    ),
    "a blob that nobody lacks": ((*FETCHING, ev.Stored("c" * 64)), []),
    "a job whose blobs cannot be had": (
        (*FETCHING, ev.JobCame(job("two")), ev.Crashed(job().job, "why")),
        [ev.SayFailed(job().job, "why"), ev.Look(job("two"))],
    ),
}


@pytest.mark.parametrize(("events", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_answers(events: tuple[object, ...], expected: list[object]) -> None:
    """The last of some events has exactly these actions."""
    assert after(*events)[1] == expected


def test_tails_are_served_beside_a_job_and_each_other() -> None:
    """They take no turn: looked up, fetched, begun and ended one by one, whatever the job does in the meantime."""
    first, second = job("one.tail", "tail"), job("two.tail", "tail")
    life, actions = after(*COMPUTING, ev.JobCame(first))
    assert actions == [ev.Look(first)]
    life, actions = after(ev.Looked(first.job, frozenset({BLOB})), life=life)
    assert actions == [ev.Ask(frozenset({BLOB}))]
    life, actions = after(ev.JobCame(second), ev.JobCame(first), life=life)
    assert actions == []
    life, actions = after(ev.Looked(second.job, frozenset()), life=life)
    assert actions == [ev.Compute(second)]
    life, actions = after(ev.Stored(BLOB), life=life)
    assert actions == [ev.Look(first)]
    life, actions = after(ev.Looked(first.job, frozenset()), life=life)
    assert actions == [ev.Compute(first)]
    life, actions = after(ev.Computed(second.job, "u"), life=life)
    assert (life.phase, actions) == (p.COMPUTING, [ev.Send("u", indexes=None)])
    life, actions = after(ev.Crashed(first.job, "why"), life=life)
    assert actions == [ev.SayFailed(first.job, "why")]
    assert after(ev.JobCame(first), life=life)[1] == [ev.SayFailed(first.job, "why")]
    life, actions = after(ev.Receipted("u", "accepted", ""), ev.JobCame(second), life=life)
    assert actions == []
    assert not life.seated
    assert not life.all_lacking


def test_a_tail_that_only_helped_is_done() -> None:
    """It has nothing to send, its seat is free, and the job is not begun again; twice, or unknown, it is nothing."""
    tail = job("one.tail", "tail")
    life, actions = after(ev.JobCame(tail), ev.Looked(tail.job, frozenset()), ev.Helped(tail.job))
    assert actions == []
    assert life == p.Life(connected=True, finished=frozenset({tail.job}))
    assert after(ev.JobCame(tail), ev.Helped(tail.job), ev.Helped("two.tail"), life=life) == (life, [])


def test_a_tail_that_nobody_waits_for_ends() -> None:
    """Cancelled while it is fetched or served: its seat is free, and it may come again."""
    tail = job("one.tail", "tail")
    life, actions = after(ev.JobCame(tail), ev.Looked(tail.job, frozenset({BLOB})), ev.Cancelled(tail.job))
    assert actions == [ev.Unseat(tail.job)]
    assert life == p.Life(connected=True)
    assert after(ev.JobCame(tail), life=life)[1] == [ev.Look(tail)]


def test_a_release_is_served_when_all_of_it_is_here() -> None:
    """A release is looked up, fetched and served beside a job; a later release takes its place."""
    first, second = (Release("tiny", n, n, str(n) * 64) for n in (1, 2))
    life, actions = after(*COMPUTING, ev.ReleaseCame(first))
    assert actions == [ev.LookRelease(first)]
    life, actions = after(ev.ReleaseLooked(first.digest, frozenset({BLOB})), life=life)
    assert actions == [ev.Ask(frozenset({BLOB}))]
    life, _ = after(ev.ReleaseCame(second), life=life)
    assert after(ev.ReleaseLooked(first.digest, frozenset()), life=life)[1] == []
    life, actions = after(ev.ReleaseLooked(second.digest, frozenset()), life=life)
    assert (life.release, life.phase, actions) == (None, p.COMPUTING, [ev.Serve(second), ev.SayHello()])


NAMES = st.sampled_from(["one", "two", "three"])
ANY_EVENT = st.one_of(
    st.builds(lambda n: ev.JobCame(job(n)), NAMES),
    st.builds(ev.Cancelled, NAMES),
    st.builds(ev.Looked, NAMES, st.sampled_from([frozenset(), frozenset({BLOB})])),
    st.just(ev.Stored(BLOB)),
    st.builds(lambda n: ev.Computed(n, f"update of {n}"), NAMES),
    st.builds(ev.Crashed, NAMES, st.just("why")),
    st.builds(lambda n: ev.Wanted(f"update of {n}", (0,), False), NAMES),
    st.builds(lambda n: ev.Receipted(f"update of {n}", "accepted", ""), NAMES),
    st.sampled_from([ev.Connected(), ev.Lost(), ev.Due(), ev.Due("update of one")]),
)


@given(st.lists(ANY_EVENT, max_size=40))
def test_in_any_order_nothing_is_done_twice_or_lost(events: list[Any]) -> None:
    """After any events: one job at a time, none that is done is computed, and only a receipt ends the waiting."""
    life, running = p.Life(), list[str]()
    for event in events:
        if isinstance(event, ev.Computed) and event.job not in running:
            continue  # a worker answers only for what it was given
        before = life
        life, actions = p.step(life, event)
        computed = [a.job.job for a in actions if isinstance(a, ev.Compute)]
        done = before.finished | set(before.waiting.values()) | before.failed.keys()
        assert not set(computed) & done
        assert before.phase != p.COMPUTING or not computed
        if isinstance(event, (ev.Computed, ev.Crashed, ev.Cancelled)):
            running = [n for n in running if n != event.job]
        running += computed
        assert len(running) <= 1
        assert (life.phase == p.IDLE) == (life.job is None)
        lost = before.waiting.keys() - life.waiting.keys()
        assert not lost or (isinstance(event, ev.Receipted) and lost == {event.update})
        assert before.finished <= life.finished


SECURE = replace(job(), settings={"secure": {}})
KEPT = (ev.JobCame(SECURE), ev.Looked(SECURE.job, frozenset()), ev.Kept(SECURE.job))
SEALED = MaskSealed("barn-1", SECURE.job, {})


def test_what_is_kept_for_a_sum_is_not_sent() -> None:
    """A job that is done for a sum says its keys, also when it comes again, and no update leaves."""
    life, actions = after(*KEPT)
    assert actions == [ev.SayKeys(SECURE.job)]
    assert (life.phase, life.waiting) == (p.IDLE, {})
    assert after(ev.JobCame(SECURE), life=life)[1] == [ev.SayKeys(SECURE.job)]


def test_a_masked_update_answers_the_first_job() -> None:
    """What others sealed leads to one piece of work, whose update answers the job; later it is only sent again."""
    life, actions = after(*KEPT, ev.MaskCame(SEALED))
    assert actions == [ev.MaskAnswer(SEALED)]

    mask = replace(SECURE, job=SECURE.job + SUFFIX)
    life, _ = after(ev.JobCame(mask), ev.Looked(mask.job, frozenset()), life=life)
    assert after(ev.MaskCame(SEALED), life=life)[1] == []  # it is being masked

    life, actions = after(ev.Computed(mask.job, "u", SECURE.job), life=life)
    assert (life.phase, dict(life.waiting), actions) == (p.IDLE, {"u": SECURE.job}, [ev.Send("u", indexes=None)])
    assert after(ev.MaskCame(SEALED), life=life)[1] == [ev.Send("u")]
    life, _ = after(ev.Receipted("u", "accepted", ""), life=life)
    assert after(ev.MaskCame(SEALED), life=life)[1] == []


def test_what_cannot_be_masked_is_out_of_its_sum() -> None:
    """A worker that dies while it masks: the hub is told of the job that it knows, and what was kept is deleted."""
    mask = replace(SECURE, job=SECURE.job + SUFFIX)
    life, actions = after(*KEPT, ev.JobCame(mask), ev.Looked(mask.job, frozenset()), ev.Crashed(mask.job, "no memory"))
    assert actions == [ev.SayFailed(SECURE.job, "no memory"), ev.ForgetMasks(SECURE.job)]
    assert (life.phase, life.masking) == (p.IDLE, frozenset())
    assert after(ev.JobCame(SECURE), life=life)[1] == [ev.SayFailed(SECURE.job, "no memory")]


def test_a_sum_that_nobody_waits_for_is_forgotten() -> None:
    """A cancel deletes what is kept and ends the masking; of a sum that is not known the hub is told so."""
    mask = replace(SECURE, job=SECURE.job + SUFFIX)
    life, actions = after(*KEPT, ev.JobCame(mask), ev.Looked(mask.job, frozenset()), ev.Cancelled(SECURE.job))
    assert actions == [ev.StopWorker(), ev.ForgetMasks(SECURE.job)]
    assert (life.phase, life.masking) == (p.IDLE, frozenset())

    (failed,) = after(ev.MaskCame(SEALED), life=life)[1]
    assert isinstance(failed, ev.SayFailed)
    assert "found nothing of it" in failed.reason


def test_who_is_at_fault_is_said() -> None:
    """Where the other half of a split job could not, the hub is told which device that is."""
    _, actions = after(*COMPUTING, ev.Crashed(job().job, "it hung up", "coop"))
    assert ev.SayFailed(job().job, "it hung up", "coop") in actions
