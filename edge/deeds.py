"""What the core does when its protocol says so: every action of edge.protocol, and the worker's answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import EdgequiltError, StorageError
from edge import events as ev
from edge import protocol as p
from edge.masking import MASK, Masking
from edge.masks import SUFFIX
from edge.outbox import RECEIPTS
from edge.request import Request, needed_blobs, needed_rank
from edge.residuals import SUFFIX as SUFFIX_LOST
from edge.residuals import Residuals
from edge.split.told import TAIL, name_of_other, only_helps, other_of
from edge.store import sweep
from edge.surroundings import surroundings
from wire import messages as m
from wire.files import digest, file_digest
from wire.masks.told import SETTING

if TYPE_CHECKING:
    from edge.core import Core

log = logging.getLogger("edgequilt.agent")
FETCH = "fetch"
LONGEST_REASON = 500  # of a receipt, in characters
TELL_EVERY_S = 30.0  # the hub is told at most so often what has changed of this board
AGENT = f"edgequilt-agent/{m.SCHEMA}"
NOT_WAITED = "the hub waits for the job no longer"
NO_PART = "this board takes part in no round (agent.take_part is false)"
ONLY_SECURE = (
    "this board adds what it learns to sums under masks only (agent.only_secure); open the round with --secure"
)
_UPDATES = {
    "train": "adapter",
    "statistics": "statistics",
    "evaluate": "scores",
    "tail": "tail",
    "fix": "edit",
    MASK: "masked",
}


class Deeds:
    """The core's hands."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._work = core.setup.state / "work"
        self._work.mkdir(parents=True, exist_ok=True)
        self._tidy()
        self._told, self._told_at = self._news(), -TELL_EVERY_S
        self._slow_told = ""  # the job whose link was told of
        self._masking = Masking(core, self._say)
        self._lost = Residuals(core.setup.state, core.outbox.updates)
        self._do: dict[type, Callable[[Any], None]] = {
            ev.SayHello: self._hello,
            ev.Look: self._look,
            ev.LookRelease: self._look_release,
            ev.Ask: self._ask,
            ev.Compute: self._compute,
            ev.StopWorker: self._stop,
            ev.Unseat: self._unseat,
            ev.Send: self._send,
            ev.SayKeys: self._masking.say_keys,
            ev.MaskAnswer: self._masking.answer,
            ev.ForgetMasks: self._masking.forget,
            ev.SayFailed: self._say_failed,
            ev.Forget: self._forget,
            ev.Serve: self._serve,
        }

    def do(self, action: object) -> None:
        """Do one action."""
        self._do[type(action)](action)

    def answer(self, kind: str, fields: dict[str, Any]) -> None:
        """What the worker says of a job."""
        core, job = self._core, self._core.life.job
        name = str(fields.get("id"))
        if job is None or job.job != name or core.life.phase != p.COMPUTING:
            return
        if kind == "progress" and "word" in fields:
            self._warn(name, str(fields["word"]))
        elif kind == "progress":
            core.status.job(name, done=fields.get("done"), of=fields.get("of"))
        elif kind in ("note", "taken"):
            core.crossings.worker(kind, name, fields)
        elif kind == "result":
            core.crossings.worker("end", name, {})
            core.barrier.drop()
            if fields.get("metrics", {}).get("slow_link") and self._slow_told != name:
                self._warn(name, str(fields["metrics"]["slow_link"]))
            self._keep(job, int(fields["samples"]), dict(fields.get("metrics", {})))
        else:
            core.crossings.worker("end", name, fields)
            core.barrier.drop()
            core.store.recheck()
            core.happen(_crashed(job, fields))
        if core.life.phase == p.IDLE:
            self.collect()

    def _warn(self, name: str, word: str) -> None:
        """What a job says of its link: during it, or at its end where it was too short to know before."""
        self._slow_told = name
        log.warning("%s: %s", name, word)

    def seat_says(self, kind: str, fields: dict[str, Any]) -> None:
        """What the worker of a tail says."""
        core, name = self._core, str(fields.get("id"))
        job = core.life.seated.get(name)
        if job is None:
            return
        if kind == "progress":
            core.status.job(name, done=fields.get("done"), of=fields.get("of"))
        elif kind in ("note", "taken"):
            core.crossings.worker(kind, name, fields)
        else:
            core.crossings.worker("end", name, fields)
            core.seats.over(name)
            if kind != "result":
                core.happen(_crashed(job, fields))
            elif only_helps(job.kind, job.settings):
                core.status.job(name, state="done", samples=int(fields["samples"]))
                core.happen(ev.Helped(name))
                self._bound()
            else:
                self._keep(job, int(fields["samples"]), dict(fields.get("metrics", {})))

    def goodbye(self) -> None:
        """Say that we are going, as far as the connection lets us."""
        self._say(m.Presence, state="offline")

    def say_failed(self, name: str, reason: str) -> None:
        """Tell the hub that what it named cannot be done; something else than a job."""
        self._say(m.Failed, job=name, reason=reason)

    def released(self) -> dict[str, Any] | None:
        """The version that is served."""
        served = self._core.store.served_of(self._core.setup.model)
        if served is None:
            return None
        return {"version": served.version, "digest": served.digest, "sequence": served.sequence}

    def _hello(self, action: ev.SayHello) -> None:
        setup = self._core.setup
        served, around = self._core.store.served_of(setup.model), surroundings()
        said = self._say(
            m.Hello,
            agent=AGENT,
            profile=setup.profile,
            bundle=setup.bundle,
            rank=setup.rank,
            jobs=setup.jobs,
            samples=self._core.data.counted.rows,
            released=-1 if served is None else served.version,
            serves="" if served is None else served.digest,
            runtime=setup.runtime,
            power=around.power,
            battery_percent=around.battery_percent,
            network=around.network,
            waits=self._core.barrier.told,
            address=self._core.crossings.address,
            hub_keys=setup.hub.believed,
            **self._program(),
            **self._warned(),
        )
        if said:
            self._core.news.said(setup.voice.sequence, self._core.now())
        self._told, self._told_at = self._news(), self._core.now()
        self._say(m.Presence, state="online")

    def _program(self) -> dict[str, str]:
        """Of an agent that its launcher started: the release that it is, and which ones it takes."""
        updates = self._core.updates
        if updates is None:
            return {}
        from edge.slots.system import own_words

        return {"program": updates.program, "system": own_words()}

    def _warned(self) -> dict[str, Any]:
        """How the board is, and all that it warns of."""
        told = self._core.watch.told()
        return {**told, "warnings": (*told["warnings"], *self._core.news.warnings(self._core.now()))}

    def _news(self) -> tuple[bool, int]:
        """What the hub is told when it changes: whether training waits, and how many rows there are."""
        return bool(self._core.barrier.told), self._core.data.counted.rows

    def _look(self, action: ev.Look) -> None:
        job, setup = action.job, self._core.setup
        self._core.status.job(job.job, kind=job.kind, round=job.round, state="fetching")
        if str(job.kind) == MASK:
            self._core.happen(ev.Looked(job.job, frozenset()))
            return
        needed = m.ability(job.kind, job.settings)
        if not setup.take_part or (setup.only_secure and not job.settings.get(SETTING)):
            self._core.happen(ev.Crashed(job.job, ONLY_SECURE if setup.take_part else NO_PART))
            return
        if needed not in setup.jobs:
            able = ", ".join(setup.jobs) or "nothing"
            self._core.happen(ev.Crashed(job.job, f"expected a job that the bundle can do ({able}), found {needed}"))
            return
        try:
            other_of(job.job, job.kind, job.settings)
        except EdgequiltError as error:
            self._core.happen(ev.Crashed(job.job, str(error)))
            return
        no_room = self._core.outbox.no_room(_UPDATES[job.kind])
        if no_room:
            self._core.happen(ev.Crashed(job.job, no_room))
            return
        rank = needed_rank(job.kind, job.settings, setup.rank)
        self._core.happen(ev.Looked(job.job, self._lacking(job.versions, rank)))

    def _look_release(self, action: ev.LookRelease) -> None:
        name = action.release.digest
        self._core.happen(ev.ReleaseLooked(name, self._lacking((name,), self._core.setup.rank)))

    def _lacking(self, versions: tuple[str, ...], rank: int) -> frozenset[str]:
        """Versions and blobs that are not here; the intake is told to take them."""
        lacking, store = set(), self._core.store
        for name in versions:
            version = store.version(name)
            if version is None:
                lacking.add(name)
                self._core.intake.expect(name, None)
                continue
            for blob, size in needed_blobs(version, rank):
                if not store.has_blob(blob):
                    lacking.add(blob)
                    self._core.intake.expect(blob, size)
        return frozenset(lacking)

    def _ask(self, action: ev.Ask) -> None:
        for blob in sorted(action.digests):
            assembly = self._core.intake.asked.get(blob)
            indexes = assembly.missing() if assembly is not None and assembly.parts else ()
            self._say(m.Fetch, blob=blob, indexes=indexes)
        self._core.alarms.arm(FETCH, self._core.now())

    def _compute(self, action: ev.Compute) -> None:
        job, setup = action.job, self._core.setup
        versions = [self._core.store.version(name) for name in job.versions]
        found = tuple(v for v in versions if v is not None)
        if str(job.kind) != MASK and (len(found) < len(versions) or not found):
            self._core.happen(
                ev.Crashed(job.job, "expected the versions of the job on disk, found none; send it again")
            )
            return
        self._tidy()
        log.info("%s %s of round %d begins", job.kind, job.job, job.round)
        self._core.status.job(job.job, state="computing")
        out = str(self._payload(job.job).resolve())
        request = Request(
            job.job,
            job.kind,
            job.round,
            tuple(job.versions),
            found,
            setup.place,
            out,
            dict(job.settings),
            self._lost.next() if job.kind == "train" else "",
        )
        if job.kind == TAIL:
            self._core.seats.begin(request)
            return
        self._core.barrier.want(request)
        self.look()

    def look(self) -> float | None:
        """Whether what waits may begin, and what goes on may go on; returns when to look again, in seconds."""
        core = self._core
        again_s, now = core.barrier.look(), core.barrier.record()
        if now != core.status.now.get("training"):
            core.status.set(training=now)
        job = core.barrier.waiting or core.barrier.running
        if job is not None:
            state = "held" if core.barrier.reason else "computing"
            if core.status.jobs.get(job.id, {}).get("state") != state:
                core.status.job(job.id, state=state)
        if self._news() != self._told and core.life.connected and core.now() - self._told_at >= TELL_EVERY_S:
            self._hello(ev.SayHello())
        return again_s

    def _stop(self, action: ev.StopWorker) -> None:
        log.info("the hub no longer waits for the job; the worker is ended")
        running = self._core.barrier.running
        self._core.crossings.end("" if running is None else running.id, NOT_WAITED)
        self._core.barrier.drop()
        self._core.link.stop()

    def _unseat(self, action: ev.Unseat) -> None:
        log.info("the hub no longer waits for %s", action.job)
        self._core.crossings.end(action.job, NOT_WAITED)
        self._core.seats.stop(action.job)

    def _keep(self, job: m.Job, samples: int, metrics: dict[str, Any]) -> None:
        """Put the worker's payload into the outbox: from here on the job is done, whatever happens to us."""
        core = self._core
        of, name = job.job.removesuffix(SUFFIX) if str(job.kind) == MASK else job.job, ""
        try:
            if self._masking.kept(job, self._payload(job.job), samples, metrics):
                return
            name = file_digest(self._payload(job.job))
            self._lost.expect(name, self._payload(job.job))
            update = core.outbox.put(
                self._payload(job.job),
                kind=_UPDATES[job.kind],
                job=of,
                round_=job.round,
                base=job.versions[0],
                samples=samples,
                metrics=metrics,
            )
        except (EdgequiltError, OSError) as error:
            self._lost.settle(name, counts=False)
            self._payload(job.job).unlink(missing_ok=True)
            core.happen(ev.Crashed(job.job, str(error)))
            return
        log.info("%s %s is done: %d bytes, %d samples", job.kind, job.job, update.bytes, samples)
        core.status.job(job.job, state="waiting", update=update.update, bytes=update.bytes, samples=samples, **metrics)
        core.masks.kept(of)
        core.happen(ev.Computed(job.job, update.update, of))

    def _send(self, action: ev.Send) -> None:
        core = self._core
        update = core.outbox.updates[action.update]
        if action.begin:
            self._say(m.Begin, **asdict(update))
        announced = action.indexes is None and update.bytes > m.CHUNK_BYTES  # the hub asks for it when it has room
        for chunk in core.outbox.chunks(action.update, () if announced else action.indexes):
            core.status.traffic.add(up=core.setup.voice.say_chunk(core.transport, chunk))
        if self._say(m.Commit, update=action.update):
            core.hearing.said(action.update, core.now())
        if action.indexes != ():
            core.alarms.calm(action.update)
        core.alarms.arm(action.update, core.now())

    def _say_failed(self, action: ev.SayFailed) -> None:
        log.warning("%s failed: %s", action.job, action.reason)
        self._core.status.job(action.job, state="failed", reason=action.reason)
        self._say(m.Failed, job=action.job, reason=action.reason, peer=action.peer)

    def _forget(self, action: ev.Forget) -> None:
        core = self._core
        job = core.outbox.updates[action.update].job
        self._lost.settle(action.update, counts=action.status != "refused")
        try:
            core.outbox.receipt(action.update, action.status, action.reason[:LONGEST_REASON])
        except StorageError:
            core.happen(ev.StillWaits(action.update, job))
            core.alarms.arm(action.update, core.now())  # its receipt will come again
            raise
        self._bound()
        core.alarms.drop(action.update)
        core.status.job(job, state=action.status, **({"reason": action.reason} if action.reason else {}))
        log.info("%s: %s%s", job, action.status, f" ({action.reason})" if action.reason else "")

    def _bound(self) -> None:
        """Forget jobs that are long done."""
        core = self._core
        if len(core.life.finished) > 2 * RECEIPTS:  # as after a start
            core.life = replace(core.life, finished=frozenset(core.outbox.receipted_jobs()))

    def _serve(self, action: ev.Serve) -> None:
        self._core.store.serve(action.release)
        self._core.status.set(released=self.released())
        log.info("version %d is served", action.release.version)
        self.collect()

    def collect(self) -> None:
        """Delete versions that are neither served, nor worked on, nor new."""
        life, released = self._core.life, self._core.store.released
        keep = {r.digest for r in (released.seen, released.served) if r is not None}
        jobs = (*life.queue, *life.seated.values(), *((life.job,) if life.job is not None else ()))
        self._core.store.collect(keep | {name for job in jobs for name in job.versions})

    def _say(self, kind: Any, /, **fields: Any) -> bool:
        core = self._core
        sent = core.setup.voice.say(core.transport, kind, **fields)
        core.status.traffic.add(up=sent)
        core.status.dirty = True
        return sent > 0

    def _tidy(self) -> None:
        """Remove what jobs have left that were cut off, and what a worker wrote that was killed."""
        for left in (*self._work.glob("*.payload"), *self._work.glob(f"*{SUFFIX_LOST}")):
            left.unlink()
        sweep(self._work)

    def _payload(self, job: str) -> Path:
        return self._work / f"{digest(job.encode())[:16]}.payload"


def _crashed(job: m.Job, fields: dict[str, Any]) -> ev.Crashed:
    """What a worker says of a job that it could not do."""
    peer = name_of_other(job.settings) if fields.get("peer") else ""
    return ev.Crashed(job.job, str(fields.get("reason")), peer)
