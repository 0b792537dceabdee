"""4-bit numbers two to a byte, the first in the low half: the order of ONNX's uint4 tensors.

ONNX operators, IR version 10, "uint4/int4" ("the first element is stored in the 4 LSB"); onnxruntime's
MatMulNBits and GatherBlockQuantized store weights in the same order. Zeros fill an odd end.
"""

from __future__ import annotations

import numpy as np

from quant.matrix import UInt8

BITS = (4, 8)


def pack(values: UInt8, bits: int) -> UInt8:
    """Values along the last axis, packed.

    Args:
        values: uint8 [..., n], each below 2^bits.
        bits: 4 or 8; 8-bit values are returned as they are.

    Returns:
        uint8 [..., ceil(n bits / 8)].

    >>> pack(np.array([[1, 2, 3]], np.uint8), 4).tolist()
    [[33, 3]]
    """
    if bits == 8:
        return values
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], 1), np.uint8)], axis=-1)
    return np.asarray(np.bitwise_or(values[..., 0::2], values[..., 1::2] << np.uint8(4)), np.uint8)


def unpack(packed: UInt8, bits: int, count: int) -> UInt8:
    """The first `count` values of each row of packed bytes.

    >>> unpack(np.array([[33, 3]], np.uint8), 4, 3).tolist()
    [[1, 2, 3]]
    """
    if bits == 8:
        return packed[..., :count]
    halves = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
    return halves.reshape(*packed.shape[:-1], 2 * packed.shape[-1])[..., :count]
