"""What never changes is computed once per sample: activations at the boundary below the lowest slot, kept on disk.

Segments that have no slot and none below them, the trunk, give the same numbers for a sample in every step. Their
boundary is kept per sample under the SHA-256 of the bundle, the boundary and that sample's prepared input: another
bundle, or other tokens, find nothing. Samples and what is computed from them stay in a file of this board.

Floats are kept in float16 (activations fit: Micikevicius et al., arXiv 1710.03740, section 3), those of a tensor with
values beyond it (masks) in float32. A row is used as it is kept, also when it was just made: so the numbers of a run do
not depend on what was in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from edge.boundary import Boundary, boundary_of
from edge.feeds import training_bucket
from edge.slab import Slab
from wire.bundle import Bundle
from wire.manifest import Bucket, Manifest

if TYPE_CHECKING:
    from edge.chain import Chain

Array = NDArray[Any]
Values = dict[str, Array]
Run = Callable[[Sequence[Mapping[str, Array]]], list[Values]]
Keys = Sequence[Sequence[bytes]]  # per micro-batch, per row


@dataclass(frozen=True)
class Kept:
    """What a cache did: rows and bytes on disk, how often a row was found and not found, and what went wrong."""

    rows: int
    file_bytes: int
    hits: int
    misses: int
    said: tuple[str, ...]


class Trunk:
    """The cache of one bundle, which `edge.chain.Chain` asks before each pass; `keep` makes it.

    Args:
        bundle: whose trunk it is.
        reads: model inputs that the trunk reads.
        first: the first segment above it.
        path: of the file.
        quota_bytes: which the file never exceeds.
        exact: keep float32.
    """

    def __init__(
        self, bundle: Bundle, reads: frozenset[str], first: int, path: Path, quota_bytes: int, *, exact: bool = False
    ) -> None:
        self.manifest, self.reads, self.first, self.exact = bundle.manifest, reads, first, exact
        self.slab = Slab(path, quota_bytes)
        self._own = f"{bundle.sha256} {first}"
        self._boundary: Boundary | None = None
        self._usable = False
        self._apart: dict[str, bool] = {}  # by bucket: whether its rows know nothing of each other
        self._said: list[str] = []

    def kept(self) -> Kept:
        """What was done so far."""
        slab = self.slab
        return Kept(slab.rows, slab.file_bytes, slab.hits, slab.misses, (*self._said, *slab.said))

    def close(self) -> None:
        """Let go of the file."""
        self.slab.close()

    def enter(self, values: Sequence[Values], bucket: str, shared: Mapping[str, Array], run: Run) -> int:
        """Put the boundary into the values of micro-batches, and say which segment comes next; 0 where it cannot.

        Args:
            values: the model's inputs of each micro-batch, [batch, ...] each; they get the boundary.
            bucket: whose shapes they have.
            shared: what all segments are fed.
            run: the trunk: inputs of micro-batches in, their boundaries out.
        """
        batch = next(b.batch for b in self.manifest.buckets if b.name == bucket)
        if not self._constant(shared) or not self._begun(bucket, batch):
            return 0
        if any(name not in value or len(value[name]) != batch for value in values for name in self.reads):
            return 0
        keys = [[self._key(value, row) for row in range(batch)] for value in values]
        if not self._by_rows(values, keys, bucket, run):
            return 0
        found = self._found(values, keys, run)
        if found is None:  # a tensor needs more room from now on
            return self.enter(values, bucket, shared, run)
        shapes = {name: tensor.shape for name, tensor in self._crossing(bucket).items()}
        for value, own in zip(values, keys, strict=True):
            value.update(self.boundary.unpacked([found[key] for key in own], shapes))
        return self.first

    @property
    def boundary(self) -> Boundary:
        """What crosses."""
        if self._boundary is None:
            raise AssertionError("no bucket was seen yet")
        return self._boundary

    def _constant(self, shared: Mapping[str, Array]) -> bool:
        """Whether nothing that is fed to the trunk may change."""
        graphs = [graph for segment in self.manifest.segments[: self.first] for graph in segment.graphs]
        return not any(tensor.name in shared for graph in graphs for tensor in graph.inputs)

    def _crossing(self, bucket: str) -> dict[str, Any]:
        below, above = self.manifest.segments[self.first - 1 : self.first + 1]
        taken = self.manifest.graph(above, "forward", bucket).inputs
        return {tensor.name: tensor for tensor in taken if tensor.name in below.outputs}

    def begin(self, bucket: Bucket) -> bool:
        """Have rows be those of a bucket, unless they are of another already; whether they are."""
        return self._begun(bucket.name, bucket.batch)

    def _begun(self, bucket: str, batch: int) -> bool:
        """Whether rows of this bucket can be kept; the first bucket decides what a row is."""
        found = boundary_of(list(self._crossing(bucket).values()), batch, exact=self.exact)
        if found is None:
            return False
        if self._boundary is None:
            self._begin(self._as_on_disk(found))
        return self._usable and self.boundary.like(found)

    def _begin(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._usable = self.slab.begin(self._label(boundary), boundary.row_bytes)

    def _as_on_disk(self, found: Boundary) -> Boundary:
        """The same, wider where the rows on disk are: they had values beyond float16."""
        try:
            known = {str(row[0]): row[2] for row in json.loads(self.slab.label())[1:]}
        except (ValueError, TypeError, LookupError):
            return found
        wide = found.wide([p.name for p in found.parts if known.get(p.name) == p.dtype])
        return wide if not self.exact and self._label(wide) == self.slab.label() else found

    def _label(self, boundary: Boundary) -> str:
        return json.dumps([self._own, *(list(asdict(part).values()) for part in boundary.parts)])

    def _key(self, value: Mapping[str, Array], row: int) -> bytes:
        found = hashlib.sha256(self._own.encode())
        for name in sorted(self.reads):
            own = np.ascontiguousarray(value[name][row])
            found.update(f"\0{name} {own.dtype.str} {own.shape}\0".encode())
            found.update(own.tobytes())
        return found.digest()

    def _by_rows(self, values: Sequence[Values], keys: Keys, bucket: str, run: Run) -> bool:
        """Whether rows stand in the boundary one after the other and know nothing of each other: they are turned."""
        batch = len(keys[0])
        if bucket in self._apart or batch == 1:
            return self._apart.get(bucket, True)
        mixed = next((value for value, own in zip(values, keys, strict=True) if len(set(own)) > 1), None)
        if mixed is None:  # all rows are one: nothing can be told
            return False
        plain = {name: mixed[name] for name in self.reads}
        made, other = run([plain, {name: np.roll(array, 1, axis=0) for name, array in plain.items()}])
        self._apart[bucket] = self.boundary.turned(made, other, batch)
        if not self._apart[bucket]:
            self._said.append("activations of a sample depend on the others of its micro-batch: nothing is kept")
        return self._apart[bucket]

    def _found(self, values: Sequence[Values], keys: Keys, run: Run) -> dict[bytes, bytes] | None:
        """The rows of all keys, from the cache or made; None where the cache was begun anew meanwhile."""
        places = {key: (value, row) for value, own in zip(values, keys, strict=True) for row, key in enumerate(own)}
        batch, found, missing = len(keys[0]), dict[bytes, bytes](), list[bytes]()
        for key in places:
            row = self.slab.get(key)
            if row is None:
                missing.append(key)
            else:
                found[key] = row
        parts = [missing[start : start + batch] for start in range(0, len(missing), batch)]
        filled = [self._gathered(places, [*part, *([part[-1]] * (batch - len(part)))]) for part in parts]
        made = run(filled) if filled else []  # nothing is missing: the session above stays open
        beyond = {name for one in made for name in self.boundary.beyond(one)}
        if beyond:
            self._widen(sorted(beyond))
            return None
        for part, one in zip(parts, made, strict=True):
            for key, packed in zip(part, self.boundary.packed(one, batch), strict=False):
                found[key] = packed
                self.slab.put(key, packed)
        return found

    def _gathered(self, places: Mapping[bytes, tuple[Values, int]], keys: Iterable[bytes]) -> Values:
        chosen = [places[key] for key in keys]
        return {name: np.stack([value[name][row] for value, row in chosen]) for name in self.reads}

    def _widen(self, names: Sequence[str]) -> None:
        self._said.append(f"{', '.join(names)} has values beyond float16 and is kept in float32")
        self._begin(self.boundary.wide(names))


def trunk_of(manifest: Manifest) -> int:
    """The first segment that has a slot, or the last where none has: all below it never changes. 0: there is no trunk.

    States make a sample depend on the one before it, so a model with states has none.
    """
    slotted = (at for at, segment in enumerate(manifest.segments) if segment.slots)
    return 0 if manifest.states else next(slotted, max(0, len(manifest.segments) - 1))


def keep(chain: Chain, path: Path, quota_bytes: int, *, exact: bool = False) -> Trunk:
    """Have a chain keep what its trunk makes, from now on.

    Args:
        chain: of a bundle.
        path: of the file; made, or taken up again.
        quota_bytes: which it never exceeds.
        exact: keep float32.

    Raises:
        BadData: the bundle has a slot in its first segment, so that nothing is constant.
    """
    manifest = chain.manifest
    first = trunk_of(manifest)
    if first == 0:
        raise BadData("expected segments below the lowest slot, found none; export with --trunk apart")
    reads = chain.read_by(manifest.segments[:first]) & {tensor.name for tensor in manifest.inputs}
    chain.trunk = Trunk(chain.bundle, frozenset(reads), first, path, quota_bytes, exact=exact)
    with suppress(BadData):  # a bundle that only serves begins with the bucket that is used first
        chain.trunk.begin(training_bucket(manifest))
    return chain.trunk
