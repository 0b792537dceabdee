"""An update as a table: each state's side effects, and what is written down before the next one's begin.

Every step may be cut off anywhere and begun again. What a step raises decides: what another try would not mend leads
back, all else is tried again later.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import BadData, DoesNotFit, IntegrityError, SignatureError, StorageError, VerificationError
from edge.install import PART, Source, fetch
from edge.room import check_room
from edge.slots.ends import At, fetched, quiet
from edge.slots.record import CHILD, FETCH, PROVE, SWITCH, TRIAL, UNPACK, VERIFY, Record
from edge.slots.slots import COMING, Slots
from edge.slots.system import check_system
from wire.envelope import Trust, check_detached
from wire.files import digest, file_digest, read_bytes, write_atomic
from wire.manifest import File
from wire.packed import LIMIT_BYTES, MANIFEST, SIGNATURE, STREAM, Packed, differing, parse, unpack

FINAL = (SignatureError, BadData, DoesNotFit, VerificationError)  # what another attempt would not mend
SIGNATURE_BYTES = 4096
PROVE_S = 600.0  # for a release to import everything and to run the golden input
Changes = dict[str, Any]


@dataclass
class Job:
    """One update.

    Attributes:
        record, slots: what is known, and what is there.
        publishers: who is believed.
        source: the hub.
        config: agent.toml, for the new release to prove itself with.
        say: told the bytes that are done and how many there are.
        at: told `enter` and `leave` of each state.
    """

    record: Record
    slots: Slots
    publishers: Trust
    source: Source
    config: Path
    say: Callable[[int, int], None] = lambda done, of: None
    at: At = quiet

    @property
    def folder(self) -> Path:
        """Where what is fetched goes."""
        return fetched(self.record.path.parent)


def advance(job: Job) -> None:
    """Go on from the state that is written down until the new release is the one that starts.

    Raises:
        EdgequiltError: why it goes no further now; of `FINAL`: why it never will.
    """
    while job.record.kept.state in CHILD:
        state = job.record.kept.state
        job.say(0, 0)
        job.at("enter", state)
        try:
            changes = TABLE[state](job)
        except OSError as error:
            raise StorageError(f"expected to {state} a release, stopped ({error.strerror}); free some space") from error
        job.at("leave", state)
        job.record.enter(**changes)


def _fetch(job: Job) -> Changes:
    """The manifest, its signature, whether it is for this board and has room; then the stream."""
    packed = _manifest(job, fresh=True)
    check_system(packed)
    if job.slots.whole(packed.version) and not any(
        differing(job.slots.folder(packed.version), packed, lambda n: job.say(0, 0))
    ):
        return {"state": PROVE, "version": packed.version, "fresh": False}
    here = sum(_size(job.folder / name) for name in (STREAM, STREAM + PART))
    check_room(job.folder, max(1, packed.bytes - here // 2), f"release {packed.version}")
    stream = File(STREAM, packed.stream_bytes, packed.stream_sha256)
    if not _same(job.folder / STREAM, packed):
        fetch(job.folder, stream, job.source, lambda size: job.say(size, stream.bytes))
    return {"state": VERIFY, "version": packed.version, "fresh": True}


def _verify(job: Job) -> Changes:
    """Signature and digests once more: of what lies there now, whatever happened since it came."""
    packed = _manifest(job)
    if not _same(job.folder / STREAM, packed, job.say):
        (job.folder / STREAM).unlink(missing_ok=True)
        return {"state": FETCH}
    return {"state": UNPACK}


def _unpack(job: Job) -> Changes:
    """Beside all others, under a name that no launcher takes for a release."""
    packed = _manifest(job)
    job.slots.sweep()
    place, done = job.slots.folder(f"{COMING}{packed.version}"), 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        job.say(done, packed.bytes)

    try:
        unpack(job.folder / STREAM, packed, place, told)
    except IntegrityError as error:  # the stream is what was signed: fetching it again would bring the same
        raise BadData(str(error)) from error
    job.slots.install(packed.version, place)
    return {"state": PROVE}


def _prove(job: Job) -> Changes:
    """The new release imports all that it is made of, and computes the golden output of the bundle in use."""
    library = job.slots.folder(job.record.kept.version) / "lib"
    command = [sys.executable, str(library / "edgequilt.py"), "agent", "prove", "--config", str(job.config)]
    environment = {**os.environ, "PYTHONPATH": str(library), "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            command, env=environment, cwd=job.folder.parent, capture_output=True, check=False, timeout=PROVE_S
        )
    except subprocess.TimeoutExpired as error:
        raise VerificationError(
            f"expected release {job.record.kept.version} to prove itself within {PROVE_S:.0f} s, it did not end"
        ) from error
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise VerificationError(
            f"expected release {job.record.kept.version} to run here, it ended with code {ended.returncode}: "
            f"{said[-1][:300] if said else 'it said nothing'}"
        )
    return {"state": SWITCH}


def _switch(job: Job) -> Changes:
    """The launcher counts its starts from the next one on; until then nothing has changed for anybody."""
    kept, current = job.record.kept, job.slots.current
    before = current if current != kept.version else kept.before
    job.record.note(before=before)
    job.slots.try_out(kept.version, before)
    return {"state": TRIAL}


TABLE: Mapping[str, Callable[[Job], Changes]] = {
    FETCH: _fetch,
    VERIFY: _verify,
    UNPACK: _unpack,
    PROVE: _prove,
    SWITCH: _switch,
}


def _manifest(job: Job, *, fresh: bool = False) -> Packed:
    """What the order names: first its digest, then its publisher's signature, then what it says."""
    order = job.record.kept.seen
    if order is None:
        raise BadData("expected an order of the hub for a release, found none; it names one again")
    at, what = f"/programs/{order.release}", f"release {order.release[:12]}"
    if fresh:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(job.folder / MANIFEST, job.source.bytes(f"{at}/manifest.json", LIMIT_BYTES))
        write_atomic(job.folder / SIGNATURE, job.source.bytes(f"{at}/manifest.sig", SIGNATURE_BYTES))
    body = read_bytes(job.folder / MANIFEST, "the manifest of a release", LIMIT_BYTES)
    if digest(body) != order.release:
        raise IntegrityError(f"expected the manifest of {what}, found other bytes; the hub serves something else")
    signature = read_bytes(job.folder / SIGNATURE, "a signature", SIGNATURE_BYTES)
    check_detached(signature, body, "publisher", job.publishers, what)
    return parse(body, what)


def _same(path: Path, packed: Packed, say: Callable[[int, int], None] = lambda done, of: None) -> bool:
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        say(done, packed.stream_bytes)

    return _size(path) == packed.stream_bytes and file_digest(path, told) == packed.stream_sha256


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
