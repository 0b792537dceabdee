"""Texts that a decoder learns from, as token ids: whole, with what their prompt takes of them.

A worker has them encoded by `python -m edge.training.passages`, a process of its own, and never loads the tokenizer
(see `edge.encode`): JSON on stdin, int32 on stdout, for each text the tokens of its prompt, all of its tokens, and ids.
"""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import IntegrityError
from edge.data.texts import Passage
from edge.encode import AT_ONCE, open_tokenizer

__all__ = ["Encoded", "Passage", "encode_passages", "encode_passages_apart"]


@dataclass(frozen=True)
class Encoded:
    """int32 ids [tokens] of prompt and text, of which the first `given` are the prompt's."""

    ids: NDArray[np.int32]
    given: int = 0


def encode_passages(tokenizer: Any, passages: Sequence[Passage]) -> list[Encoded]:
    """Uncut and not filled up. The tokenizer's own marks (as a first token) come once, with what is in front."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    out = []
    for start in range(0, len(passages), AT_ONCE):
        part = passages[start : start + AT_ONCE]
        first = tokenizer.encode_batch([p.prompt or p.text for p in part])
        rest = tokenizer.encode_batch([p.text if p.prompt else "" for p in part], add_special_tokens=False)
        for passage, a, b in zip(part, first, rest, strict=True):
            out.append(Encoded(np.array([*a.ids, *b.ids], np.int32), len(a.ids) if passage.prompt else 0))
    return out


def encode_passages_apart(path: Path, passages: Sequence[Passage]) -> list[Encoded]:
    """The same, made by a process that ends before this returns.

    Raises:
        IntegrityError: the file holds no tokenizer, or the process failed otherwise.
    """
    asked = {"path": str(path), "passages": [[p.text, p.prompt] for p in passages]}
    done = subprocess.run(
        [sys.executable, "-m", "edge.training.passages"],
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=False,
    )
    found = _read(np.frombuffer(done.stdout, np.int32)) if done.returncode == 0 and len(done.stdout) % 4 == 0 else []
    if len(found) != len(passages):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise IntegrityError(said[-1] if said else f"expected {path.name} to encode texts, but its process failed")
    return found


def _read(stream: NDArray[np.int32]) -> list[Encoded]:
    out, at = [], 0
    while at + 2 <= len(stream):
        given, count = int(stream[at]), int(stream[at + 1])
        out.append(Encoded(stream[at + 2 : at + 2 + count], given))
        at += 2 + count
    return out


def main() -> int:
    """The process."""
    asked = json.load(sys.stdin)
    try:
        tokenizer = open_tokenizer(Path(asked["path"]))
    except IntegrityError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for one in encode_passages(tokenizer, [Passage(text, prompt) for text, prompt in asked["passages"]]):
        sys.stdout.buffer.write(array("i", [one.given, len(one.ids), *one.ids.tolist()]).tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
