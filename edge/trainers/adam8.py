"""AdamW with moments of 8 bits: a quarter of the optimizer's memory.

Dettmers, Lewis, Shleifer and Zettlemoyer, "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861: every
block of 256 entries keeps its largest magnitude, and each entry the code of the nearest number of a dynamic tree
(section 1.3); a step restores both moments, moves them on and stores them again (section 2). The step itself is
`wire.adamw` (arXiv 1711.05101, algorithm 2).

It departs from the paper in what the second code stands for: sqrt(v), not v. A tree reaches seven decades below
the block's largest number. Entries of v span twice as many decades as gradients do, so a gradient 2,000 times below
the largest of its block would get v = 0 and a step of m / epsilon: it did, in trials. And no v above 0 is stored as
0. So small arrays can be stored in 8 bits too, which the paper's own implementation avoids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.trainers.interface import Array, Arrays, State
from quant.codes import dynamic_tree
from wire.adamw import AdamW, Hyperparameters, slowed

BLOCK = 256
UNREAD_BITS = 15  # of float32: what is left tells numbers 0.4 % apart, and those of a tree are 0.7 % apart

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Adam8:
    """An optimizer; its state is `t` uint64 [] and, per array, the codes and scales of both moments.

    `m/NAME` and `v/NAME` uint8 in the array's shape, `m_scale/NAME` and `v_scale/NAME` float32 [ceil(entries / 256)].
    """

    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)

    def slower(self, share: float) -> Adam8:
        """The same with a share of its rate."""
        return Adam8(slowed(self.hyperparameters, share))

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step: moments of zero."""
        state: dict[str, NDArray[Any]] = {"t": np.zeros((), np.uint64)}
        for name, array in arrays.items():
            zeros = np.zeros(array.shape, np.float32)
            state[f"m/{name}"], state[f"m_scale/{name}"] = encode(zeros, signed=True)
            state[f"v/{name}"], state[f"v_scale/{name}"] = encode(zeros, signed=False)
        return state

    def apply(
        self, arrays: Arrays, state: State, gradients: Arrays
    ) -> tuple[dict[str, Array], dict[str, NDArray[Any]]]:
        """Arrays and state after a step; arrays without a gradient stay as they are."""
        made, kept = dict(arrays), dict(state)
        kept["t"] = np.asarray(state["t"] + np.uint64(1), np.uint64)
        for name, gradient in gradients.items():
            # one array at a time, so that the moments of one array only are ever there in 32 bits
            m = decode(state[f"m/{name}"], state[f"m_scale/{name}"], signed=True)
            root = decode(state[f"v/{name}"], state[f"v_scale/{name}"], signed=False)
            adam = AdamW(self.hyperparameters, int(state["t"]), {name: m}, {name: root * root})
            made[name] = arrays[name].copy()
            adam.step(made, {name: gradient})
            kept[f"m/{name}"], kept[f"m_scale/{name}"] = encode(adam.m[name], signed=True)
            kept[f"v/{name}"], kept[f"v_scale/{name}"] = encode(np.sqrt(adam.v[name]), signed=False)
        return made, kept


def encode(values: Array, *, signed: bool) -> tuple[UInt8, Array]:
    """Each entry's nearest number of the tree, in units of its block's largest magnitude.

    Args:
        values: any shape, finite, not below 0 without a sign; blocks run over its entries row by row.
        signed: which tree. Without a sign no entry above 0 becomes 0.

    Returns:
        Codes in the shape of the values, scales [ceil(entries / 256)].

    >>> codes, scales = encode(np.array([[0.0, 2.0]], np.float32), signed=True)
    >>> codes.tolist(), scales.tolist()
    ([[127, 255]], [2.0])
    """
    count = -(-values.size // BLOCK)
    blocks = np.zeros((count, BLOCK), np.float32)
    blocks.reshape(-1)[: values.size] = values.reshape(-1)
    scales = np.abs(blocks).max(axis=1, initial=0)
    shares = blocks / np.where(scales > 0, scales, np.float32(1))[:, None]
    codes = nearest(shares.reshape(-1)[: values.size], signed=signed)
    if not signed:
        codes = np.maximum(codes, (values.reshape(-1) > 0).astype(np.uint8))
    return codes.reshape(values.shape), scales


def nearest(shares: Array, *, signed: bool) -> UInt8:
    """The code of each share's nearest number, of the lower one where two are: shares float32 [n] of -1 to 1.

    >>> nearest(np.array([-1.0, 0.0, 1.0], np.float32), signed=True).tolist()
    [0, 127, 255]
    """
    # sign, exponent and 8 bits of mantissa leave two codes to choose from: a step takes a sixth of one that searches
    low, middles = _lowest(signed=signed), _middles(signed=signed)
    codes: UInt8 = low[np.ascontiguousarray(shares).view(np.uint32) >> np.uint32(UNREAD_BITS)]
    codes += shares > middles[codes]
    return codes


def decode(codes: UInt8, scales: Array, *, signed: bool) -> Array:
    """What codes and scales stand for, float32 in the shape of the codes.

    >>> decode(np.array([[127, 255]], np.uint8), np.array([2.0], np.float32), signed=True).tolist()
    [[0.0, 2.0]]
    """
    flat = _tree(signed=signed)[codes.reshape(-1)]
    restored: Array = flat * np.repeat(scales, BLOCK)[: flat.size]
    return restored.reshape(codes.shape)


def state_bytes(state: State) -> int:
    """Bytes of a state: in 8 bits 2 + 8 / 256 for each trained number, in 32 bits 8.

    >>> state_bytes(Adam8().begin({"a": np.zeros((64, 64), np.float32)}))
    8328
    """
    return sum(array.nbytes for array in state.values())


@cache
def _tree(*, signed: bool) -> Array:
    return dynamic_tree(signed)


@cache
def _middles(*, signed: bool) -> Array:
    """Between neighbours of the tree: what lies above a middle belongs to the upper one; nothing is above the last."""
    tree = _tree(signed=signed)
    middles: Array = (tree[1:] + tree[:-1]) / np.float32(2)
    return np.append(middles, np.float32(np.inf))


@cache
def _lowest(*, signed: bool) -> UInt8:
    """The code of the least number among those that share all bits but the last 15."""
    bits = np.arange(1 << 32 - UNREAD_BITS, dtype=np.uint32) << np.uint32(UNREAD_BITS)
    bits[len(bits) // 2 :] |= np.uint32((1 << UNREAD_BITS) - 1)  # below 0 the largest magnitude is the least number
    codes: UInt8 = np.searchsorted(_middles(signed=signed)[:-1], bits.view(np.float32)).astype(np.uint8)
    return codes
