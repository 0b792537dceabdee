"""Thin updates, the worker's part: what was learned is coded, and what that loses is written beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from console.errors import EdgequiltError
from edge.residuals import beside
from edge.train import TrainSettings
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.files import read_bytes, write_atomic
from wire.kinds.head import pick
from wire.thin.coding import thinned
from wire.thin.table import codec_of

log = logging.getLogger("edgequilt.agent")


def sent_thin(update: Adapter, start: Adapter, settings: TrainSettings, lost: Path | None, out: Path) -> Adapter:
    """The update as it goes: thin, or whole where the version has nothing to differ from.

    Args:
        update: what was learned.
        start: what the job began with, at the job's rank.
        settings: of the job.
        lost: file of what earlier updates lost; None: nothing.
        out: where the update will be written; what it loses goes beside it first.

    Raises:
        BadData: there is no such codec.
        StorageError: the disk is full.
    """
    codec = codec_of(settings.thin)
    if update.heads and pick(start.heads, next(iter(update.heads))) is None:
        return update
    zeros = {name: np.zeros_like(change) for name, change in update.bias.items()}
    sent = replace(start, bias={**zeros, **start.bias})
    before = _read(lost, update.model) if codec.feedback else Adapter(update.model)
    made, gone = thinned(update, sent, codec, settings.factors, before)
    if codec.feedback:
        write_atomic(beside(out), to_bytes(gone), mode=0o600)
    return made


def _read(lost: Path | None, model: str) -> Adapter:
    """What earlier updates lost; nothing where that cannot be read any more."""
    if lost is None:
        return Adapter(model)
    try:
        found = read_adapter(read_bytes(lost, "what earlier updates lost"), str(lost))
    except EdgequiltError as error:
        log.warning("what earlier updates lost is left out: %s", error)
        return Adapter(model)
    return found if found.model == model else Adapter(model)
