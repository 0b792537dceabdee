"""Texts into token ids, in a process of its own if memory is dear.

A tokenizer of 30,000 words takes 14 MiB with its library, and leaves half of it behind when it is dropped. A worker
therefore has its texts encoded by `python -m edge.encode` and never loads it: JSON on stdin; on stdout int32, then
how many texts were cut.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from console.errors import IntegrityError

COUNT_BYTES = 8
AT_ONCE = 256  # encodings are a hundred times larger than the ids in them
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


@dataclass(frozen=True)
class Settings:
    """How texts become rows of `length` ids: cut to `max_length`, padded with `pad_id` on one side."""

    length: int
    max_length: int
    pad_id: int
    pad_token: str
    padding_side: str


def open_tokenizer(path: Path) -> Any:
    """The tokenizer in a file.

    Raises:
        IntegrityError: the file holds none.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a board's cores belong to the model
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise IntegrityError(
            f"expected a tokenizer in {path.name}, found something else ({error}); export the bundle again"
        ) from error


@dataclass(frozen=True)
class Encoded:
    """Texts as ids.

    Attributes:
        ids: per model input, those of all texts one after the other: int32, texts x length.
        truncated: how many texts lost their end.
    """

    ids: Sequence[array[int] | bytes]
    truncated: int


def encode(tokenizer: Any, texts: Sequence[str], names: Sequence[str], settings: Settings) -> Encoded:
    """The ids of texts, for the model inputs in `names`."""
    tokenizer.enable_truncation(min(settings.length, settings.max_length))
    tokenizer.enable_padding(
        direction=settings.padding_side, pad_id=settings.pad_id, pad_token=settings.pad_token, length=settings.length
    )
    out, truncated = [array("i") for _ in names], 0
    for start in range(0, len(texts), AT_ONCE):
        for encoding in tokenizer.encode_batch(list(texts[start : start + AT_ONCE])):
            for ids, name in zip(out, names, strict=True):
                ids.extend(getattr(encoding, FIELDS[name]))
            truncated += bool(encoding.overflowing)
    return Encoded(out, truncated)


def encode_apart(path: Path, texts: Sequence[str], names: Sequence[str], settings: Settings) -> Encoded:
    """What `encode` gives, as bytes, made by a process that ends before this returns.

    Raises:
        IntegrityError: the file holds no tokenizer, or the process failed otherwise.
    """
    import subprocess

    asked = {"path": str(path), "texts": list(texts), "names": list(names), "settings": asdict(settings)}
    done = subprocess.run(
        [sys.executable, "-m", "edge.encode"], input=json.dumps(asked).encode(), capture_output=True, check=False
    )
    size = 4 * len(texts) * settings.length
    if done.returncode != 0 or len(done.stdout) != size * len(names) + COUNT_BYTES:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise IntegrityError(said[-1] if said else f"expected {path.name} to encode texts, but its process failed")
    ids = [done.stdout[i * size : (i + 1) * size] for i in range(len(names))]
    return Encoded(ids, int.from_bytes(done.stdout[-COUNT_BYTES:], "little"))


def main() -> int:
    """The process."""
    asked = json.load(sys.stdin)
    try:
        found = encode(
            open_tokenizer(Path(asked["path"])), asked["texts"], asked["names"], Settings(**asked["settings"])
        )
    except IntegrityError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for ids in found.ids:
        sys.stdout.buffer.write(ids)
    sys.stdout.buffer.write(found.truncated.to_bytes(COUNT_BYTES, "little"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
