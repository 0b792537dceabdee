"""Differences as small whole numbers, with a step for each block of 64.

Symmetric uniform quantization by blocks, as Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv
2110.02861, section 2.1, with evenly spaced levels: an outlier spoils its block alone. A block begins anew with each
array.

    step = the smallest bfloat16 of at least max |x| / q        code = round(x / step)        x' = code step

with q = 127 for 8 bits, 7 for 4; all in float32, so both sides come to the same bits, and |x - x'| is at most half a
step. `thin/codes` int8 [n], or uint8 of two codes + 8 each, the first in the low bits; `thin/steps` uint16, the upper
half of a float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
CODES, STEPS = "thin/codes", "thin/steps"
BLOCK = 64
TINY = 1e-30  # smaller differences are none: their steps would lose bits
LEVELS = {8: 127, 4: 7}


def encode(values: Array, bits: int) -> dict[str, NDArray[Any]]:
    """Tensors of differences [n].

    >>> encode(np.array([1.27, -0.64], np.float32), 8)["thin/codes"].tolist()
    [127, -64]
    """
    rows = np.zeros((_blocks(len(values)), BLOCK), np.float32)
    rows.reshape(-1)[: len(values)] = values
    largest = np.abs(rows).max(axis=1, initial=0)
    upper = _rounded_up(np.where(largest > TINY, largest / np.float32(LEVELS[bits]), np.float32(0)))
    steps = _steps(upper)[:, None]
    codes = np.rint(np.divide(rows, steps, out=np.zeros_like(rows), where=steps > 0)).astype(np.int8)
    return {CODES: _packed(codes.reshape(-1)[: len(values)], bits), STEPS: upper}


def decode(tensors: Mapping[str, NDArray[Any]], sizes: Sequence[int], bits: int) -> list[Array]:
    """The differences of arrays of these sizes.

    Raises:
        ValueError: the tensors are of other lengths, or say what none says.
    """
    codes, upper = tensors[CODES], tensors[STEPS]
    wanted = [_bytes(size, bits) for size in sizes], [_blocks(size) for size in sizes]
    for name, found, lengths in ((CODES, codes, wanted[0]), (STEPS, upper, wanted[1])):
        if found.shape != (sum(lengths),):
            raise ValueError(f"{name} is {list(found.shape)} instead of [{sum(lengths)}]")
    steps = _steps(upper)
    if not (np.isfinite(steps) & (steps >= 0)).all():
        raise ValueError(f"{STEPS} has steps that are none")
    pieces: list[Array] = []
    for size, own, step in zip(sizes, _cut(codes, wanted[0]), _cut(steps, wanted[1]), strict=True):
        levels = _unpacked(own, size, bits)
        if np.abs(levels.astype(np.int16)).max(initial=0) > LEVELS[bits]:
            raise ValueError(f"{CODES} has codes beyond {LEVELS[bits]}")
        pieces.append(levels.astype(np.float32) * np.repeat(step, BLOCK)[:size])
    return pieces


def tensors_of(bits: int) -> dict[str, np.dtype[Any]]:
    """The tensors of a file, and their types."""
    return {CODES: np.dtype(np.int8 if bits == 8 else np.uint8), STEPS: np.dtype(np.uint16)}


def _cut(whole: NDArray[Any], lengths: Sequence[int]) -> list[NDArray[Any]]:
    return np.split(whole, np.cumsum(lengths, dtype=np.int64)[:-1])


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _bytes(size: int, bits: int) -> int:
    return size if bits == 8 else -(-size // 2)


def _rounded_up(steps: Array) -> NDArray[np.uint16]:
    """The upper halves of the smallest bfloat16 that are not below positive float32."""
    upper: NDArray[np.uint16] = ((steps.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)
    return upper


def _steps(upper: NDArray[np.uint16]) -> Array:
    steps: Array = (upper.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return steps


def _packed(codes: NDArray[np.int8], bits: int) -> NDArray[Any]:
    if bits == 8:
        return codes
    nibbles = np.zeros(2 * _bytes(len(codes), bits), np.uint8)
    nibbles[: len(codes)] = codes + 8
    packed: NDArray[np.uint8] = nibbles[::2] | (nibbles[1::2] << np.uint8(4))
    return packed


def _unpacked(codes: NDArray[Any], size: int, bits: int) -> NDArray[np.int8]:
    if bits == 8:
        return codes
    halves = np.stack([codes & 15, codes >> 4], axis=1).reshape(-1)[:size]
    levels: NDArray[np.int8] = halves.astype(np.int8) - np.int8(8)
    return levels
