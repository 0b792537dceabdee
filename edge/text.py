"""Text into the model's inputs: token ids of the bundle's tokenizer.json, cut and padded to the bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError
from edge.encode import FIELDS, Settings, encode, encode_apart, open_tokenizer
from wire.manifest import Bucket, Preprocess, Tensor

FILE = "tokenizer.json"
POSITIONS = "position_ids"  # of decoders


@dataclass(frozen=True)
class Tokens:
    """Encoded texts: int32 [n, sequence] per model input."""

    arrays: dict[str, NDArray[np.int32]]
    truncated: int = 0  # texts that lost their end
    positions: bool = False  # whether the model wants to be told the place of each token

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, indexes: Sequence[int]) -> dict[str, NDArray[Any]]:
        """int64 [len(indexes), sequence] per model input."""
        chosen = np.asarray(indexes, np.int64)
        out: dict[str, NDArray[Any]] = {name: array[chosen].astype(np.int64) for name, array in self.arrays.items()}
        if self.positions:
            out[POSITIONS] = positions_of(out["attention_mask"])
        return out


def positions_of(mask: NDArray[Any]) -> NDArray[np.int64]:
    """The how-manieth token each is, from 0, whichever side is filled up: mask and positions [batch, sequence].

    >>> positions_of(np.array([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist()
    [[0, 0, 0, 1], [0, 1, 2, 2]]
    """
    places: NDArray[np.int64] = np.maximum(mask.cumsum(axis=1) - 1, 0).astype(np.int64)
    return places


class Texts:
    """`parameters` of the manifest (docs/bundle.md): `max_length`, `pad_id`, `pad_token`, `padding_side`.

    A `frugal` one encodes in a process of its own, for which it pays with a fraction of a second each time.

    Raises:
        IntegrityError: there is no tokenizer file, or the model wants inputs that a tokenizer does not make.
    """

    def __init__(self, folder: Path, preprocess: Preprocess, inputs: Sequence[Tensor], frugal: bool) -> None:
        files = [f for f in preprocess.files if f.endswith(FILE)]
        if not files:
            raise IntegrityError(f"expected a {FILE} in the bundle, found none; export the bundle again")
        names = [t.name for t in inputs]
        self._positions = POSITIONS in names and "attention_mask" in names
        names = [name for name in names if name != POSITIONS or not self._positions]
        unknown = [name for name in names if name not in FIELDS]
        if unknown:
            raise IntegrityError(
                f"expected model inputs among {', '.join(FIELDS)}, found {', '.join(unknown)}; this bundle is "
                f"not for text"
            )
        self._path, self._parameters, self._frugal = folder / files[0], preprocess.parameters, frugal
        self._names = names
        self._tokenizer: Any = None

    def prepare(self, samples: Sequence[Any], bucket: Bucket) -> Tokens:
        """Encode texts to the bucket's sequence.

        Raises:
            BadData: a sample is not text.
            IntegrityError: the tokenizer file is none.
        """
        wrong = next((s for s in samples if not isinstance(s, str)), None)
        if wrong is not None:
            raise BadData(f"expected texts for this bundle, found {type(wrong).__name__}")
        settings = self._settings(bucket)
        if self._frugal:
            found = encode_apart(self._path, samples, self._names, settings)
        else:
            self._tokenizer = self._tokenizer or open_tokenizer(self._path)
            found = encode(self._tokenizer, samples, self._names, settings)
        shape = (len(samples), settings.length)
        arrays = [
            np.frombuffer(ids, np.int32).reshape(shape) if samples else np.zeros(shape, np.int32) for ids in found.ids
        ]
        return Tokens(dict(zip(self._names, arrays, strict=True)), found.truncated, self._positions)

    def _settings(self, bucket: Bucket) -> Settings:
        given = self._parameters
        if bucket.sequence is None:
            raise IntegrityError("expected a bucket with a sequence length for text, found none; export again")
        return Settings(
            length=bucket.sequence,
            max_length=int(given.get("max_length", bucket.sequence)),
            pad_id=int(given.get("pad_id", 0)),
            pad_token=str(given.get("pad_token") or "[PAD]"),
            padding_side=str(given.get("padding_side", "right")),
        )
