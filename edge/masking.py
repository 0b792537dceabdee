"""What the core does about sums under masks: what it says is on disk before."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from console.errors import BadData, SignatureError
from edge import events as ev
from edge import masks
from wire import messages as m
from wire.masks.told import told_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.core import Core

log = logging.getLogger("edgequilt.agent")
MASK = "mask"  # kind of the core's own job that masks what another one made


class Masking:
    """The core's hands in sums under masks; `say` sends a message of the board."""

    def __init__(self, core: Core, say: Callable[..., Any]) -> None:
        self._core, self._say = core, say

    def kept(self, job: m.Job, payload: Path, samples: int, metrics: dict[str, Any]) -> bool:
        """Keep what a job made, if it is for a sum; whether it is.

        Raises:
            BadData: the terms of the sum are wrong.
            StorageError: the disk is full.
        """
        told = None if str(job.kind) == MASK else told_of(job.settings)
        if told is None:
            return False
        self._core.masks.begin(job, told, payload)
        log.info("%s %s is done, for a sum under masks", job.kind, job.job)
        self._core.status.job(job.job, state="kept", samples=samples, **metrics)
        self._core.happen(ev.Kept(job.job))
        return True

    def say_keys(self, action: ev.SayKeys) -> None:
        """Say that a job is done; after the roster has come, the hub has the keys."""
        state = self._core.masks.states[action.job]
        if state.stage == "keys":
            self._say(m.MaskKeys, job=action.job, round=state.round, **asdict(state.public))

    def answer(self, action: ev.MaskAnswer) -> None:
        """Go on with a sum, or say why not: what would tell another story than before is refused."""
        try:
            self._answer(action.message)
        except (BadData, SignatureError) as error:
            reason = str(error)
            log.warning("%s: %s", action.message.job, reason)
            self._say(m.Failed, job=action.message.job, reason=reason)

    def forget(self, action: ev.ForgetMasks) -> None:
        """Nobody waits for the sum any more."""
        self._core.masks.forget(action.job)

    def _answer(self, message: m.MaskRoster | m.MaskSealed | m.MaskSurvivors | m.MaskOpen) -> None:
        from wire.masks import device as d

        core, name = self._core, message.job
        state = core.masks.states[name]
        if isinstance(message, m.MaskRoster):
            core.masks.put(after := d.on_roster(state, masks.roster(message.keys, core.setup.peers)))
            self._say(m.MaskShares, job=name, sealed=dict(after.sealed))
        elif isinstance(message, m.MaskSealed):
            core.masks.put(after := d.on_sealed(state, message.sealed))
            core.happen(ev.JobCame(masks.work(core.masks.jobs[name], after, core.masks.vector(name))))
        elif isinstance(message, m.MaskSurvivors):
            after, tags = d.on_survivors(state, message.survivors)
            core.masks.put(after)
            self._say(m.MaskAgreed, job=name, tags=tags)
        else:
            after, seeds, keys = d.on_open(state, message.tags)
            core.masks.put(after)
            self._say(m.MaskReveal, job=name, seeds=seeds, keys=keys)
