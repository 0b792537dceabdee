"""What a tail does for a board that gathers statistics: from the border to the features, which go back; nothing learns.

The board's labels stay with it, and so does what it makes of the features: its update is that of a board which holds
the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from console.errors import BadData
from edge.chain import Chain
from edge.split.channel import Note
from edge.split.tail import Border, border_of, bucket_of, expected_at, opened
from edge.split.talk import FEATURES
from edge.split.wish import Wish
from edge.training.learned import head_of
from wire.activations import pack_tensors, unpack_tensors
from wire.adapter import Adapter
from wire.inputs import inputs_of

Array = NDArray[Any]


@dataclass
class Reading:
    """One board's job: all of its rows, once for every rank that the job names.

    Attributes:
        chain: of the whole model.
        adapters: of the version, at each rank in order.
        wish: of the board.
        border: where the tail begins.
        passes: that the board has ended.
    """

    chain: Chain
    adapters: tuple[Adapter, ...]
    wish: Wish
    border: Border
    passes: int = 0

    def opened(self) -> Note:
        """What the board is told first."""
        return opened(self.border, head_of(self.chain.manifest).features)

    def take(self, note: Note) -> Note | None:
        """One note of the board; what to say to it, if anything.

        Raises:
            BadData: it does not belong here, and the job cannot go on.
        """
        if note.step != self.passes or note.what not in ("forth", "step") or self.passes >= len(self.adapters):
            raise BadData(
                f"expected micro-batches of pass {self.passes} of {len(self.adapters)}, found {note.what} of "
                f"{note.step}; it begins anew"
            )
        if note.what == "forth":
            return self._features(note)
        self.passes += 1
        return None

    def _features(self, note: Note) -> Note:
        chain, manifest, first = self.chain, self.chain.manifest, self.border.first
        head, shared = head_of(manifest), inputs_of(manifest, self.adapters[self.passes])
        bucket = bucket_of(manifest, self.wish, str(note.fields.get("bucket")))
        values = dict(unpack_tensors(note.data, expected_at(manifest, self.border, bucket)))
        chain.up([values], bucket.name, shared, range(first, len(manifest.segments)), (head.features_output,))
        features = values[head.features_output]
        data = pack_tensors({FEATURES: features}, {FEATURES: self.wish.coding})
        return Note("features", note.step, note.micro, {"rows": len(features)}, data)


def reading_of(chain: Chain, adapters: tuple[Adapter, ...], wish: Wish) -> Reading:
    """What a board's statistics are at its tail.

    Args:
        chain: of the tail's bundle, the whole model.
        adapters: of the version, at each rank that the job names.
        wish: of the board.

    Raises:
        BadData: the tail has no cut where the front ends, or no head; or the board wants to learn.
    """
    if wish.labels or wish.back:
        raise BadData("expected a board that asks for features alone, found one that learns; it begins anew")
    head_of(chain.manifest)
    return Reading(chain, adapters, wish, border_of(chain.manifest, wish))
