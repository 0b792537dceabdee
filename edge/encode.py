"""Texts into token ids, in a process of its own if memory is dear.

A tokenizer of 30,000 words takes 14 MiB with its library, and leaves half of it behind when it is dropped. A worker
therefore has its texts encoded by `python -m edge.encode` and never loads it: JSON on stdin, int32 on stdout.
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


def encode(tokenizer: Any, texts: Sequence[str], names: Sequence[str], settings: Settings) -> list[array[int]]:
    """Per model input in `names`, the ids of all texts one after the other: int32, len(texts) x length."""
    tokenizer.enable_truncation(min(settings.length, settings.max_length))
    tokenizer.enable_padding(
        direction=settings.padding_side, pad_id=settings.pad_id, pad_token=settings.pad_token, length=settings.length
    )
    out = [array("i") for _ in names]
    for start in range(0, len(texts), AT_ONCE):
        for encoding in tokenizer.encode_batch(list(texts[start : start + AT_ONCE])):
            for ids, name in zip(out, names, strict=True):
                ids.extend(getattr(encoding, FIELDS[name]))
    return out


def encode_apart(path: Path, texts: Sequence[str], names: Sequence[str], settings: Settings) -> list[bytes]:
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
    if done.returncode != 0 or len(done.stdout) != size * len(names):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise IntegrityError(said[-1] if said else f"expected {path.name} to encode texts, but its process failed")
    return [done.stdout[i * size : (i + 1) * size] for i in range(len(names))]


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
    for ids in found:
        sys.stdout.buffer.write(ids.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
