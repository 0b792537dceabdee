"""A board's side of sums under masks, for the honest fake device: the real table, and where it falls silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire import messages as m
from wire.envelope import body_of
from wire.masks import device as d
from wire.masks import pairwise
from wire.masks.fixed_point import Words, encode
from wire.masks.told import told_of


@dataclass
class Masked:
    """The sums that a device takes part in. `silent` names the stages that it does not answer any more."""

    states: dict[str, d.Masking] = field(default_factory=dict)
    vectors: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # as they are, which never leaves it
    words: dict[str, Words] = field(default_factory=dict)
    secrets: list[bytes] = field(default_factory=list)  # all that it ever drew
    silent: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def begin(self, job: m.Job, name: str, vector: NDArray[np.float64]) -> None:
        """Its job is done."""
        told = told_of(job.settings)
        assert told is not None
        self.states[job.job] = d.begin(job.job, job.round, name, told)
        drawn = self.states[job.job]
        self.secrets += [drawn.seed, drawn.masking_secret, drawn.sealing_secret]
        self.vectors[job.job] = vector
        self.words[job.job] = encode(vector, told.bound, told.fraction_bits)

    def keys(self, job: str, sender: m.Sender) -> m.MaskKeys | None:
        """What it says of itself; after the roster has come, nothing."""
        state = self.states[job]
        if state.stage != "keys" or "keys" in self.silent:
            return None
        public = state.public
        return m.MaskKeys(sender, job, state.round, public.sealing, public.masking, public.commitment)

    def answer(self, message: Any, sender: m.Sender) -> Any:
        """What it says to a question of the hub; bytes are a masked update."""
        stages = {m.MaskRoster: "shares", m.MaskSealed: "masked", m.MaskSurvivors: "agreed", m.MaskOpen: "reveals"}
        if stages[type(message)] in self.silent or message.job not in self.states:
            return None
        try:
            return self._answer(message, sender, self.states[message.job])
        except BadData as error:
            self.refused.append(str(error))
            return None

    def _answer(self, message: Any, sender: m.Sender, state: d.Masking) -> Any:
        if isinstance(message, m.MaskRoster):
            found = {n: m.decode(body_of(b, "keys"), m.MaskKeys) for n, b in message.keys.items()}
            keys = {n: d.PublicKeys(k.sealing, k.masking, k.commitment) for n, k in found.items()}
            self.states[message.job] = after = d.on_roster(state, keys)
            return m.MaskShares(sender, message.job, dict(after.sealed))
        if isinstance(message, m.MaskSealed):
            self.states[message.job] = after = d.on_sealed(state, message.sealed)
            seeds = d.seeds_of(after)
            return pairwise.add(self.words[message.job].copy(), seeds.plus, seeds.minus).tobytes()
        if isinstance(message, m.MaskSurvivors):
            self.states[message.job], tags = d.on_survivors(state, message.survivors)
            return m.MaskAgreed(sender, message.job, tags)
        self.states[message.job], given, secrets = d.on_open(state, message.tags)
        return m.MaskReveal(sender, message.job, given, secrets)
