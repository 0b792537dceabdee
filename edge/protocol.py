"""An agent's life as a table without I/O: (life, event) -> (life, actions).

A job is idle -> fetching -> computing -> idle; its update then waits for a receipt while the next job runs. A
release is fetched beside it. Every event may come twice, late or never: what is known decides, not the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edge import events as ev
from edge.masks import SUFFIX
from edge.split.told import TAIL
from wire.messages import Job, MaskSealed, Release

IDLE, FETCHING, COMPUTING = "idle", "fetching", "computing"
NONE: frozenset[str] = frozenset()
MOST_QUEUED = 64  # jobs; the hub says those beyond again while its rounds wait for them
MOST_FAILED = 256  # jobs whose reason is remembered; one that is older is tried once more if it comes again


@dataclass(frozen=True)
class Life:
    """What an agent knows. `waiting` is rebuilt from the outbox and `finished` from the receipts at a start."""

    phase: str = IDLE
    connected: bool = False
    job: Job | None = None
    lacking: frozenset[str] = NONE  # what the job needs and is not here
    queue: tuple[Job, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)  # update -> job, without a receipt
    finished: frozenset[str] = NONE  # jobs with a receipt
    failed: Mapping[str, str] = field(default_factory=dict)  # job -> reason
    masking: frozenset[str] = NONE  # jobs that are done, for a sum under masks
    release: Release | None = None  # the one to serve as soon as it is here
    release_lacking: frozenset[str] = NONE
    seated: Mapping[str, Job] = field(default_factory=dict)  # tails of boards, which run beside the job
    tails_lacking: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by job, of those that have not begun

    @property
    def all_lacking(self) -> frozenset[str]:
        """What anything lacks."""
        return self.lacking.union(self.release_lacking, *self.tails_lacking.values())


Actions = tuple[Any, ...]
Step = tuple[Life, Actions]
Handler = Callable[[Life, Any], Step]

# ---------------------------------------------------------------------------------------------- handlers


def _connected(life: Life, event: ev.Connected) -> Step:
    again = tuple(ev.Send(update) for update in life.waiting)
    return replace(life, connected=True), (ev.SayHello(), *again, *_asking(life))


def _lost(life: Life, event: ev.Lost) -> Step:
    return replace(life, connected=False), ()


def _job_came(life: Life, event: ev.JobCame) -> Step:
    job = event.job
    update = next((u for u, name in life.waiting.items() if name == job.job), None)
    if update is not None:
        return life, (ev.Send(update),)
    if job.job in life.failed:
        return life, (ev.SayFailed(job.job, life.failed[job.job]),)
    if job.job in life.masking:
        return life, (ev.SayKeys(job.job),)
    crowded = len(life.queue) + len(life.seated) >= MOST_QUEUED
    if crowded or job.job in life.finished or _is_under_way(life, job.job):
        return life, ()
    if job.kind == TAIL:
        seated = {**life.seated, job.job: job}
        return replace(life, seated=seated, tails_lacking={**life.tails_lacking, job.job: NONE}), (ev.Look(job),)
    return _next(replace(life, queue=(*life.queue, job)))


def _cancelled(life: Life, event: ev.Cancelled) -> Step:
    if event.job in life.seated:
        return _unseated(life, event.job), (ev.Unseat(event.job),)
    names = {event.job, event.job + SUFFIX}
    forget = (ev.ForgetMasks(event.job),) if event.job in life.masking else ()
    life = replace(life, masking=life.masking - names, queue=tuple(q for q in life.queue if q.job not in names))
    if life.job is None or life.job.job not in names:
        return life, forget
    stop = (ev.StopWorker(),) if life.phase == COMPUTING else ()
    after, actions = _next(_without_job(life))
    return after, (*stop, *forget, *actions)


def _looked(life: Life, event: ev.Looked) -> Step:
    if life.job is None or life.job.job != event.job:
        return _tail_looked(life, event)
    if event.lacking:
        return replace(life, lacking=event.lacking), (ev.Ask(event.lacking - life.all_lacking),)
    return replace(life, phase=COMPUTING, lacking=NONE), (ev.Compute(life.job),)


def _tail_looked(life: Life, event: ev.Looked) -> Step:
    if event.job not in life.tails_lacking:
        return life, ()
    others = {job: lacking for job, lacking in life.tails_lacking.items() if job != event.job}
    if event.lacking:
        more = event.lacking - life.all_lacking
        return replace(life, tails_lacking={**others, event.job: event.lacking}), (ev.Ask(more),)
    return replace(life, tails_lacking=others), (ev.Compute(life.seated[event.job]),)


def _release_came(life: Life, event: ev.ReleaseCame) -> Step:
    return replace(life, release=event.release, release_lacking=NONE), (ev.LookRelease(event.release),)


def _release_looked(life: Life, event: ev.ReleaseLooked) -> Step:
    if life.release is None or life.release.digest != event.digest:
        return life, ()
    if event.lacking:
        return replace(life, release_lacking=event.lacking), (ev.Ask(event.lacking - life.all_lacking),)
    return replace(life, release=None, release_lacking=NONE), (ev.Serve(life.release), ev.SayHello())


def _stored(life: Life, event: ev.Stored) -> Step:
    """A version that has come may name blobs that are lacking, so look again rather than cross off."""
    actions: list[Any] = []
    if life.job is not None and event.digest in life.lacking:
        actions.append(ev.Look(life.job))
    if life.release is not None and event.digest in life.release_lacking:
        actions.append(ev.LookRelease(life.release))
    actions += [ev.Look(life.seated[job]) for job, lacking in life.tails_lacking.items() if event.digest in lacking]
    return life, tuple(actions)


def _computed(life: Life, event: ev.Computed) -> Step:
    known = replace(life, waiting={**life.waiting, event.update: event.of or event.job})
    send = (ev.Send(event.update, indexes=None),)
    if event.job in life.seated:
        return _unseated(known, event.job), send
    if life.job is None or life.job.job != event.job:
        return known, send
    after, actions = _next(_without_job(known))
    return after, (*send, *actions)


def _helped(life: Life, event: ev.Helped) -> Step:
    if event.job not in life.seated:
        return life, ()
    return replace(_unseated(life, event.job), finished=life.finished | {event.job}), ()


def _kept(life: Life, event: ev.Kept) -> Step:
    known = replace(life, masking=life.masking | {event.job})
    if life.job is None or life.job.job != event.job:
        return known, (ev.SayKeys(event.job),)
    after, actions = _next(_without_job(known))
    return after, (ev.SayKeys(event.job), *actions)


def _mask_came(life: Life, event: ev.MaskCame) -> Step:
    name = event.message.job
    update = next((u for u, job in life.waiting.items() if job == name), None)
    if isinstance(event.message, MaskSealed) and update is not None:
        return life, (ev.Send(update),)
    if isinstance(event.message, MaskSealed) and (name in life.finished or _is_under_way(life, name + SUFFIX)):
        return life, ()
    if name not in life.masking:
        return life, (ev.SayFailed(name, "expected to be in that sum, found nothing of it in the state folder"),)
    return life, (ev.MaskAnswer(event.message),)


def _tail_crashed(life: Life, event: ev.Crashed) -> Step:
    if event.job not in life.seated:
        return life, ()
    failed = replace(_unseated(life, event.job), failed=_reasons(life, event.job, event.reason))
    return failed, (ev.SayFailed(event.job, event.reason, event.peer),)


def _crashed(life: Life, event: ev.Crashed) -> Step:
    if life.job is None or life.job.job != event.job:
        return _tail_crashed(life, event)
    name = event.job.removesuffix(SUFFIX)  # what could not be masked is out of its sum
    forget = (ev.ForgetMasks(name),) if name in life.masking else ()
    reasons = _reasons(life, name, event.reason)
    failed = replace(life, failed=reasons, masking=life.masking - {name})
    after, actions = _next(_without_job(failed))
    return after, (ev.SayFailed(name, event.reason, event.peer), *forget, *actions)


def _wanted(life: Life, event: ev.Wanted) -> Step:
    if event.update not in life.waiting:
        return life, ()
    indexes = event.indexes or (None if event.begin else ())
    return life, (ev.Send(event.update, event.begin, indexes),)


def _receipted(life: Life, event: ev.Receipted) -> Step:
    job = life.waiting.get(event.update)
    if job is None:
        return life, ()
    waiting = {u: name for u, name in life.waiting.items() if u != event.update}
    return replace(life, waiting=waiting, finished=life.finished | {job}), (
        ev.Forget(event.update, event.status, event.reason),
    )


def _still_waits(life: Life, event: ev.StillWaits) -> Step:
    return replace(life, waiting={**life.waiting, event.update: event.job}, finished=life.finished - {event.job}), ()


def _due(life: Life, event: ev.Due) -> Step:
    if not life.connected:
        return life, ()
    if not event.update:
        return life, _asking(life)
    return life, (ev.Send(event.update),) if event.update in life.waiting else ()


def _reasons(life: Life, job: str, reason: str) -> dict[str, str]:
    return {**dict(list(life.failed.items())[-MOST_FAILED + 1 :]), job: reason}


def _unseated(life: Life, job: str) -> Life:
    lacking = {name: some for name, some in life.tails_lacking.items() if name != job}
    return replace(life, seated={n: one for n, one in life.seated.items() if n != job}, tails_lacking=lacking)


def _is_under_way(life: Life, job: str) -> bool:
    if job in life.seated:
        return True
    return (life.job is not None and life.job.job == job) or any(q.job == job for q in life.queue)


def _nothing(life: Life, event: object) -> Step:
    return life, ()


def _next(life: Life) -> Step:
    if life.phase != IDLE or not life.queue:
        return life, ()
    job, *rest = life.queue
    return replace(life, phase=FETCHING, job=job, lacking=NONE, queue=tuple(rest)), (ev.Look(job),)


def _without_job(life: Life) -> Life:
    return replace(life, phase=IDLE, job=None, lacking=NONE)


def _asking(life: Life) -> Actions:
    return (ev.Ask(life.all_lacking),) if life.all_lacking else ()


ALWAYS: dict[type, Handler] = {
    ev.Connected: _connected,
    ev.Lost: _lost,
    ev.JobCame: _job_came,
    ev.Cancelled: _cancelled,
    ev.Helped: _helped,
    ev.Kept: _kept,
    ev.MaskCame: _mask_came,
    ev.ReleaseCame: _release_came,
    ev.BundleNamed: _nothing,
    ev.ProgramNamed: _nothing,
    ev.KeysCame: _nothing,
    ev.StandingCame: _nothing,
    ev.ReleaseLooked: _release_looked,
    ev.Stored: _stored,
    ev.Wanted: _wanted,
    ev.Receipted: _receipted,
    ev.StillWaits: _still_waits,
    ev.Due: _due,
}
TABLE: dict[str, dict[type, Handler]] = {
    IDLE: {**ALWAYS, ev.Looked: _tail_looked, ev.Computed: _computed, ev.Crashed: _tail_crashed},
    FETCHING: {**ALWAYS, ev.Looked: _looked, ev.Computed: _computed, ev.Crashed: _crashed},
    COMPUTING: {**ALWAYS, ev.Looked: _tail_looked, ev.Computed: _computed, ev.Crashed: _crashed},
}


def step(life: Life, event: object) -> Step:
    """What an event makes of an agent, and what there is to do."""
    return TABLE[life.phase][type(event)](life, event)
