"""The ways of sending an update thin, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData
from wire.thin import blocks, half, largest

Array = NDArray[np.float32]
Tensors = Mapping[str, NDArray[Any]]
NONE = "none"
LEAST, MOST = 1e-4, 0.5  # of a fraction: beyond a half, int8 is smaller and loses less
WORDS = {
    NONE: "whole float32 factors",
    "fp16": "differences to what was sent, as float16",
    "int8": "the same as whole numbers of 8 bits with a step for every 64, with error feedback",
    "int4": "the same, of 4 bits",
    "top:FRACTION": "the largest differences only, such as top:0.05 for one in twenty, with error feedback",
}


@dataclass(frozen=True)
class Codec:
    """One way to send differences.

    Attributes:
        name: how people choose it.
        tensors: of a file, all one-dimensional, and their types.
        encode: differences [n] of one array -> its pieces of the tensors.
        decode: (tensors with the pieces of all arrays one after the other, sizes of the arrays) -> their differences;
            ValueError if they are something else. Nothing larger than the arrays and the tensors is made.
        feedback: whether what it loses is remembered and added to the next update.
    """

    name: str
    tensors: Mapping[str, np.dtype[Any]]
    encode: Callable[[Array], dict[str, NDArray[Any]]]
    decode: Callable[[Tensors, Sequence[int]], list[Array]]
    feedback: bool


def codec_of(name: str) -> Codec:
    """The codec of a name.

    Raises:
        BadData: there is none of that name.

    >>> codec_of("top:0.05").feedback, codec_of("fp16").feedback
    (True, False)
    """
    if name == "fp16":
        return Codec(name, half.TENSORS, half.encode, half.decode, False)
    if name in ("int8", "int4"):
        bits = int(name[3:])
        encode, decode = partial(blocks.encode, bits=bits), partial(blocks.decode, bits=bits)
        return Codec(name, blocks.tensors_of(bits), encode, decode, True)
    found = re.fullmatch(r"top:(0\.[0-9]{1,6})", name)
    if found is None or not LEAST <= float(found[1]) <= MOST:
        raise BadData(
            f"expected {', '.join(WORDS)} (FRACTION from {LEAST:g} to {MOST:g}) for updates, found {name[:63]!r}; "
            f"choose one of these"
        )
    fraction = float(found[1])
    encode, decode = partial(largest.encode, fraction=fraction), partial(largest.decode, fraction=fraction)
    return Codec(name, largest.TENSORS, encode, decode, True)


def joined(pieces: Sequence[Mapping[str, NDArray[Any]]], codec: Codec) -> dict[str, NDArray[Any]]:
    """The tensors of a file from the pieces of its arrays, in their order."""
    return {
        name: np.concatenate([piece[name] for piece in pieces]) if pieces else np.zeros(0, kind)
        for name, kind in codec.tensors.items()
    }
