"""Text into token ids: the tokenizers library on the bundle's tokenizer.json, cut and padded to the bucket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError
from edge.memory import give_back
from wire.manifest import Bucket, Preprocess, Tensor

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a board's cores belong to the model
FILE = "tokenizer.json"
AT_ONCE = 256  # encodings are a hundred times larger than the ids in them
_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


@dataclass(frozen=True)
class Tokens:
    """Encoded texts: int32 [n, sequence] per model input."""

    arrays: dict[str, NDArray[np.int32]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, indexes: Sequence[int]) -> dict[str, NDArray[Any]]:
        """int64 [len(indexes), sequence] per model input."""
        chosen = np.asarray(indexes, np.int64)
        return {name: array[chosen].astype(np.int64) for name, array in self.arrays.items()}


class Texts:
    """`parameters` of the manifest (docs/bundle.md): `max_length`, `pad_id`, `pad_token`, `padding_side`.

    Raises:
        IntegrityError: there is no tokenizer file, or the model wants inputs that a tokenizer does not make.
    """

    def __init__(self, folder: Path, preprocess: Preprocess, inputs: Sequence[Tensor]) -> None:
        names = [f for f in preprocess.files if f.endswith(FILE)]
        if not names:
            raise IntegrityError(f"expected a {FILE} in the bundle, found none; export the bundle again")
        unknown = [t.name for t in inputs if t.name not in _FIELDS]
        if unknown:
            raise IntegrityError(
                f"expected model inputs among {', '.join(_FIELDS)}, found {', '.join(unknown)}; this bundle is "
                f"not for text"
            )
        self._path, self._parameters = folder / names[0], preprocess.parameters
        self._names = [t.name for t in inputs]
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
        tokenizer, length = self._fitted(bucket.sequence), bucket.sequence or 0
        arrays = {name: np.zeros((len(samples), length), np.int32) for name in self._names}
        for start in range(0, len(samples), AT_ONCE):
            encodings = tokenizer.encode_batch(list(samples[start : start + AT_ONCE]))
            for name, array in arrays.items():
                array[start : start + AT_ONCE] = [getattr(e, _FIELDS[name]) for e in encodings]
        return Tokens(arrays)

    def rest(self) -> None:
        """Drop the tokenizer."""
        if self._tokenizer is not None:
            self._tokenizer = None
            give_back()

    def _fitted(self, length: int | None) -> Any:
        if length is None:
            raise IntegrityError("expected a bucket with a sequence length for text, found none; export again")
        if self._tokenizer is None:
            self._tokenizer = _read(self._path)
        given = self._parameters
        self._tokenizer.enable_truncation(min(length, int(given.get("max_length", length))))
        self._tokenizer.enable_padding(
            direction=given.get("padding_side", "right"),
            pad_id=int(given.get("pad_id", 0)),
            pad_token=str(given.get("pad_token") or "[PAD]"),
            length=length,
        )
        return self._tokenizer


def _read(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise IntegrityError(
            f"expected a tokenizer in {path.name}, found something else ({error}); export the bundle again"
        ) from error
