"""What an agent keeps of sums under masks until they are over: secrets, readable by its owner only.

* `masks/JOB.vector`: what its job made, as integers, until it is masked.
* `masks/JOB.state`: the board's side of the protocol (wire.masks.device); written before anything is said.

JOB is the start of the SHA-256 of the job's name. A restarted agent goes on; what is not needed any more is deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import BadData, EdgequiltError
from edge.store import sweep
from wire.envelope import Trust, body_of, unseal
from wire.files import digest, read_bytes, sync_folder, write_atomic
from wire.masks.told import Told
from wire.messages import Job, MaskKeys, decode
from wire.pack import pack, unpack
from wire.record import plain, read_record

if TYPE_CHECKING:
    from wire.masks import device as d  # at run time only an agent that is in a sum loads it: 0.6 MiB

log = logging.getLogger("edgequilt.agent")
SUFFIX = " under masks"  # of the name of the core's own job that masks what another one made


class Masks:
    """The state folder's part that sums under masks fill and empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "masks"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(self.folder)
        self.states: dict[str, d.Masking] = {}
        self.jobs: dict[str, Job] = {}
        for path in sorted(self.folder.glob("*.state")):
            self._read(path)
        kept = {self._place(job).stem for job in self.states}
        for path in self.folder.glob("*.vector"):
            if path.stem not in kept:
                path.unlink()

    def begin(self, job: Job, told: Told, payload: Path) -> None:
        """Take over what a job made; sums of earlier rounds are over.

        Raises:
            StorageError: the disk is full.
        """
        from wire.masks import device as d

        for name in [name for name, state in self.states.items() if state.round < job.round]:
            self.forget(name)
        payload.replace(self.vector(job.job))
        sync_folder(self.folder)
        self.put(d.begin(job.job, job.round, job.device, told), job)

    def put(self, state: d.Masking, job: Job | None = None) -> None:
        """Keep a state; it is on disk when this returns."""
        job = job or self.jobs[state.job]
        body = pack({"state": plain(state), "job": plain(job)})
        write_atomic(self._place(state.job).with_suffix(".state"), body, mode=0o600)
        self.states[state.job], self.jobs[state.job] = state, job

    def vector(self, job: str) -> Path:
        """Where the result of a job is, until it is masked."""
        return self._place(job).with_suffix(".vector")

    def kept(self, job: str) -> None:
        """The masked update is in the outbox: the board's own secrets and its plain result go."""
        if job in self.states:
            from wire.masks import device as d

            self.put(d.masked(self.states[job]))
            self.vector(job).unlink(missing_ok=True)

    def forget(self, job: str) -> None:
        """Nobody waits any more."""
        self._place(job).with_suffix(".state").unlink(missing_ok=True)
        self.vector(job).unlink(missing_ok=True)
        self.states.pop(job, None)
        self.jobs.pop(job, None)

    def _place(self, job: str) -> Path:
        return self.folder / digest(job.encode())[:16]

    def _read(self, path: Path) -> None:
        from wire.masks import device as d

        try:
            found = unpack(read_bytes(path, "a sum under masks"), "a sum under masks")
            state = read_record(d.Masking, found["state"], str(path))
            self.states[state.job], self.jobs[state.job] = state, read_record(Job, found["job"], str(path))
        except (EdgequiltError, KeyError, TypeError):
            log.warning("%s cannot be read and is dropped: this board is out of that sum", path.name)
            path.unlink()


def roster(keys: Mapping[str, bytes], peers: Trust | None) -> dict[str, d.PublicKeys]:
    """What the boards of a roster published, as they signed it.

    Args:
        keys: envelopes by device.
        peers: the keys of the boards that this one takes part with, if it was told; None: it believes its hub.

    Raises:
        BadData, SignatureError: one is not of the board, or not signed by a board that is known.
    """
    from wire.masks import device as d

    found: dict[str, d.PublicKeys] = {}
    signers: set[str] = set()
    for name, envelope in sorted(keys.items()):
        what = f"the keys of {name}"
        if peers is None:
            body = body_of(envelope, what)
        else:
            body, signer = unseal(envelope, "device", peers, what)
            signers.add(signer.id)
        said = decode(body, MaskKeys)
        if said.sender.device != name:
            raise BadData(f"expected {what}, found those of {said.sender.device}; nothing is shared")
        found[name] = d.PublicKeys(said.sealing, said.masking, said.commitment)
    if peers is not None and len(signers) < len(found):
        raise BadData(f"expected {len(found)} boards in the roster, found keys of {len(signers)}; nothing is shared")
    return found


def work(job: Job, state: d.Masking, vector: Path) -> Job:
    """The core's own job that masks what another one made."""
    from wire.masks import device as d

    seeds = d.seeds_of(state)
    told: dict[str, Any] = {"vector": str(vector.resolve()), "plus": list(seeds.plus), "minus": list(seeds.minus)}
    kind: Any = "mask"  # none of this kind comes from outside
    return replace(job, job=job.job + SUFFIX, kind=kind, settings=told)
