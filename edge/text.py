"""Text into token ids: the tokenizers library on the bundle's tokenizer.json, cut and padded to the bucket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError
from wire.manifest import Bucket, Preprocess, Tensor

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a board's cores belong to the model
_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class Text:
    """`parameters` of the manifest (docs/bundle.md): `max_length`, `pad_id`, `pad_token`, `padding_side`.

    Raises:
        IntegrityError: the tokenizer file is not one, or the model wants inputs that a tokenizer does not make.
    """

    def __init__(self, folder: Path, preprocess: Preprocess, inputs: Sequence[Tensor]) -> None:
        from tokenizers import Tokenizer

        names = [f for f in preprocess.files if f.endswith("tokenizer.json")]
        if not names:
            raise IntegrityError("expected a tokenizer.json in the bundle, found none; export the bundle again")
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / names[0]))
        except Exception as error:  # the library raises plain Exception
            raise IntegrityError(
                f"expected a tokenizer in {names[0]}, found something else ({error}); export the bundle again"
            ) from error
        unknown = [t.name for t in inputs if t.name not in _FIELDS]
        if unknown:
            raise IntegrityError(
                f"expected model inputs among {', '.join(_FIELDS)}, found {', '.join(unknown)}; this bundle is "
                f"not for text"
            )
        self._names = [t.name for t in inputs]
        self._parameters = preprocess.parameters
        self._length = -1

    def __call__(self, samples: Sequence[Any], bucket: Bucket) -> dict[str, NDArray[Any]]:
        """Texts as int64 [len(samples), sequence] per model input.

        Raises:
            BadData: a sample is not text.
        """
        if not all(isinstance(s, str) for s in samples):
            wrong = next(s for s in samples if not isinstance(s, str))
            raise BadData(f"expected texts for this bundle, found {type(wrong).__name__}")
        self._fit(bucket.sequence or 128)
        encodings = self._tokenizer.encode_batch(list(samples))
        return {
            name: np.array([getattr(e, _FIELDS[name]) for e in encodings], np.int64).reshape(len(samples), -1)
            for name in self._names
        }

    def _fit(self, length: int) -> None:
        if length == self._length:
            return
        given = self._parameters
        self._tokenizer.enable_truncation(min(length, int(given.get("max_length", length))))
        self._tokenizer.enable_padding(
            direction=given.get("padding_side", "right"),
            pad_id=int(given.get("pad_id", 0)),
            pad_token=str(given.get("pad_token") or "[PAD]"),
            length=length,
        )
        self._length = length
