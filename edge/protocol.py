"""An agent's life as a table without I/O: (life, event) -> (life, actions).

A job is idle -> fetching -> computing -> idle; its update then waits for a receipt while the next job runs. A
release is fetched beside it. Every event may come twice, late or never: what is known decides, not the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wire.messages import Job, Release

IDLE, FETCHING, COMPUTING = "idle", "fetching", "computing"
Blobs = frozenset[str]
NONE: Blobs = frozenset()


@dataclass(frozen=True)
class Life:
    """What an agent knows. `waiting` is rebuilt from the outbox and `finished` from the receipts at a start."""

    phase: str = IDLE
    connected: bool = False
    job: Job | None = None
    lacking: Blobs = NONE  # what the job needs and is not here
    queue: tuple[Job, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)  # update -> job, without a receipt
    finished: Blobs = NONE  # jobs with a receipt
    failed: Mapping[str, str] = field(default_factory=dict)  # job -> reason
    release: Release | None = None  # the one to serve as soon as it is here
    release_lacking: Blobs = NONE


# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True)
class Connected:
    """The broker is there (again)."""


@dataclass(frozen=True)
class Lost:
    """The broker is gone."""


@dataclass(frozen=True)
class JobCame:
    """The hub asks for a job, perhaps not for the first time."""

    job: Job


@dataclass(frozen=True)
class Cancelled:
    """The hub no longer waits for a job."""

    job: str


@dataclass(frozen=True)
class Looked:
    """What the current job lacks; nothing means that it can begin."""

    job: str
    lacking: Blobs


@dataclass(frozen=True)
class ReleaseCame:
    """A release newer than any seen."""

    release: Release


@dataclass(frozen=True)
class ReleaseLooked:
    """What that release lacks."""

    digest: str
    lacking: Blobs


@dataclass(frozen=True)
class Stored:
    """A version or blob is here, whole."""

    digest: str


@dataclass(frozen=True)
class Computed:
    """The worker is done and the update is on disk."""

    job: str
    update: str


@dataclass(frozen=True)
class Crashed:
    """The job cannot be done."""

    job: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """The hub lacks chunks of an update, or even its beginning."""

    update: str
    indexes: tuple[int, ...]
    begin: bool


@dataclass(frozen=True)
class Receipted:
    """The hub has journalled an update, or never will."""

    update: str
    status: str
    reason: str


@dataclass(frozen=True)
class Due:
    """Time to ask again: for an update's receipt, or, with an empty name, for what is lacking."""

    update: str = ""


# ----------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class SayHello:
    """Say what this agent runs and holds."""


@dataclass(frozen=True)
class Look:
    """Find out what the current job lacks."""

    job: Job


@dataclass(frozen=True)
class LookRelease:
    """Find out what the release lacks."""

    release: Release


@dataclass(frozen=True)
class Ask:
    """Fetch these versions or blobs."""

    digests: Blobs


@dataclass(frozen=True)
class Compute:
    """Give the job to the worker."""

    job: Job


@dataclass(frozen=True)
class StopWorker:
    """Take it away from the worker."""


@dataclass(frozen=True)
class Send:
    """Send Begin (perhaps), chunks (None: all) and Commit of an update."""

    update: str
    begin: bool = True
    indexes: tuple[int, ...] | None = ()


@dataclass(frozen=True)
class SayFailed:
    """Tell the hub why there will be no update."""

    job: str
    reason: str


@dataclass(frozen=True)
class Forget:
    """Log the receipt and drop the update."""

    update: str
    status: str
    reason: str


@dataclass(frozen=True)
class Serve:
    """The release is complete: serve it."""

    release: Release


Actions = tuple[Any, ...]
Step = tuple[Life, Actions]
Handler = Callable[[Life, Any], Step]

# ---------------------------------------------------------------------------------------------- handlers


def _connected(life: Life, event: Connected) -> Step:
    again = tuple(Send(update) for update in life.waiting)
    return replace(life, connected=True), (SayHello(), *again, *_asking(life))


def _lost(life: Life, event: Lost) -> Step:
    return replace(life, connected=False), ()


def _job_came(life: Life, event: JobCame) -> Step:
    job = event.job
    update = next((u for u, name in life.waiting.items() if name == job.job), None)
    if update is not None:
        return life, (Send(update),)
    if job.job in life.failed:
        return life, (SayFailed(job.job, life.failed[job.job]),)
    under_way = {life.job.job} if life.job is not None else set()
    if job.job in life.finished or job.job in under_way or any(q.job == job.job for q in life.queue):
        return life, ()
    return _next(replace(life, queue=(*life.queue, job)))


def _cancelled(life: Life, event: Cancelled) -> Step:
    queue = tuple(q for q in life.queue if q.job != event.job)
    if life.job is None or life.job.job != event.job:
        return replace(life, queue=queue), ()
    stop = (StopWorker(),) if life.phase == COMPUTING else ()
    after, actions = _next(replace(_without_job(life), queue=queue))
    return after, (*stop, *actions)


def _looked(life: Life, event: Looked) -> Step:
    if life.job is None or life.job.job != event.job:
        return life, ()
    if event.lacking:
        return replace(life, lacking=event.lacking), (Ask(event.lacking - life.lacking - life.release_lacking),)
    return replace(life, phase=COMPUTING, lacking=NONE), (Compute(life.job),)


def _release_came(life: Life, event: ReleaseCame) -> Step:
    return replace(life, release=event.release, release_lacking=NONE), (LookRelease(event.release),)


def _release_looked(life: Life, event: ReleaseLooked) -> Step:
    if life.release is None or life.release.digest != event.digest:
        return life, ()
    if event.lacking:
        return replace(life, release_lacking=event.lacking), (Ask(event.lacking - life.release_lacking - life.lacking),)
    return replace(life, release=None, release_lacking=NONE), (Serve(life.release), SayHello())


def _stored(life: Life, event: Stored) -> Step:
    """A version that has come may name blobs that are lacking, so look again rather than cross off."""
    actions: list[Any] = []
    if life.job is not None and event.digest in life.lacking:
        actions.append(Look(life.job))
    if life.release is not None and event.digest in life.release_lacking:
        actions.append(LookRelease(life.release))
    return life, tuple(actions)


def _computed(life: Life, event: Computed) -> Step:
    known = replace(life, waiting={**life.waiting, event.update: event.job})
    send = (Send(event.update, indexes=None),)
    if life.job is None or life.job.job != event.job:
        return known, send
    after, actions = _next(_without_job(known))
    return after, (*send, *actions)


def _crashed(life: Life, event: Crashed) -> Step:
    if life.job is None or life.job.job != event.job:
        return life, ()
    after, actions = _next(_without_job(replace(life, failed={**life.failed, event.job: event.reason})))
    return after, (SayFailed(event.job, event.reason), *actions)


def _wanted(life: Life, event: Wanted) -> Step:
    if event.update not in life.waiting:
        return life, ()
    indexes = event.indexes or (None if event.begin else ())
    return life, (Send(event.update, event.begin, indexes),)


def _receipted(life: Life, event: Receipted) -> Step:
    job = life.waiting.get(event.update)
    if job is None:
        return life, ()
    waiting = {u: name for u, name in life.waiting.items() if u != event.update}
    return replace(life, waiting=waiting, finished=life.finished | {job}), (
        Forget(event.update, event.status, event.reason),
    )


def _due(life: Life, event: Due) -> Step:
    if not life.connected:
        return life, ()
    if not event.update:
        return life, _asking(life)
    return life, (Send(event.update),) if event.update in life.waiting else ()


def _nothing(life: Life, event: object) -> Step:
    return life, ()


def _next(life: Life) -> Step:
    if life.phase != IDLE or not life.queue:
        return life, ()
    job, *rest = life.queue
    return replace(life, phase=FETCHING, job=job, lacking=NONE, queue=tuple(rest)), (Look(job),)


def _without_job(life: Life) -> Life:
    return replace(life, phase=IDLE, job=None, lacking=NONE)


def _asking(life: Life) -> Actions:
    lacking = life.lacking | life.release_lacking
    return (Ask(lacking),) if lacking else ()


ALWAYS: dict[type, Handler] = {
    Connected: _connected,
    Lost: _lost,
    JobCame: _job_came,
    Cancelled: _cancelled,
    ReleaseCame: _release_came,
    ReleaseLooked: _release_looked,
    Stored: _stored,
    Wanted: _wanted,
    Receipted: _receipted,
    Due: _due,
}
TABLE: dict[str, dict[type, Handler]] = {
    IDLE: {**ALWAYS, Looked: _nothing, Computed: _computed, Crashed: _nothing},
    FETCHING: {**ALWAYS, Looked: _looked, Computed: _computed, Crashed: _crashed},
    COMPUTING: {**ALWAYS, Looked: _nothing, Computed: _computed, Crashed: _crashed},
}


def step(life: Life, event: object) -> Step:
    """What an event makes of an agent, and what there is to do."""
    return TABLE[life.phase][type(event)](life, event)
