"""The door to bitsandbytes: NF4 and FP4 codes of weights, and 8-bit codes of their scales.

It chooses codes; `quant.codes` reads them. Its own way back is not used: in version 0.50.2 `dequantize_4bit` on a
processor starts a new block with every row, although its quantizer and its other devices let blocks run on, and so
restores noise wherever the block does not divide the columns. onnxruntime's MatMulBnb4 reads what was written.

It works on torch tensors and takes seconds to import, so it is loaded by what asks for these formats and by nothing
else. Boards read codes without it.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from console.errors import MissingDependency
from quant.codes import BLOCKS_AT_ONCE, QUANT_TYPES, SCALES_AT_ONCE, SIZES, Codes, Kind, Nested
from quant.matrix import Float32, finite_matrix


def quantize_codes(weight: npt.ArrayLike, kind: Kind = "nf4", block: int = 64) -> Codes:
    """Each entry's nearest number in the table, with its block's largest magnitude as scale.

    Args:
        weight: [rows, columns], finite, not empty.
        kind: "nf4" or "fp4".
        block: 32, 64, 128 or 256 entries; need not divide the columns, nor the weight.

    Raises:
        ValueError: the weight is no finite matrix or empty; no such kind or block.
        MissingDependency: bitsandbytes or torch is not installed.

    >>> quantize_codes([[1.0, -1.0]]).values.tolist()
    [240]
    """
    if kind not in QUANT_TYPES:
        raise ValueError(f"expected nf4 or fp4, found '{kind}'")
    if block not in SIZES:
        raise ValueError(f"expected a block of {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, found {block}")
    w = finite_matrix(weight)
    if not w.size:
        raise ValueError(f"expected a weight with entries, found shape {w.shape}")
    torch, functional = _libraries()
    flat = w.reshape(-1)
    values = np.empty((w.size + 1) // 2, np.uint8)
    scales = np.empty(-(-w.size // block), np.float32)
    # in blocks: it makes several float copies of what it is given
    for start in range(0, len(scales), BLOCKS_AT_ONCE):
        blocks = slice(start, start + BLOCKS_AT_ONCE)
        part = torch.from_numpy(np.array(flat[start * block : blocks.stop * block]))
        packed, state = functional.quantize_4bit(part, blocksize=block, quant_type=kind)
        values[start * block // 2 : blocks.stop * block // 2] = packed.numpy().reshape(-1)
        scales[blocks] = state.absmax.numpy()
    return Codes(values, scales, (w.shape[0], w.shape[1]), kind, block)


def nest_scales(scales: Float32) -> Nested:
    """Double quantization: scales as 8-bit codes around their mean, with a step per 256 of them.

    Made for blocks of like size: scales far below the mean lose their digits, some even their sign.

    Args:
        scales: [n] of `Codes`.

    >>> nest_scales(np.array([1.0, 3.0], np.float32)).bytes
    10
    """
    torch, functional = _libraries()
    # mean and differences as bitsandbytes forms them, so that its packages hold the same bytes
    all_of_them = torch.from_numpy(np.array(scales, np.float32))
    offset = all_of_them.mean()
    values, state = functional.quantize_blockwise(all_of_them - offset, blocksize=SCALES_AT_ONCE)
    return Nested(values.numpy(), state.absmax.numpy(), offset.numpy())


@cache
def _libraries() -> tuple[Any, Any]:
    """torch, and the functions of bitsandbytes."""
    # on import it warns that a kernel which we do not call could not be downloaded
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        import bitsandbytes.functional
        import torch
    except ImportError as error:
        raise MissingDependency(
            f"expected bitsandbytes for NF4 and FP4, found none ({error}); install edgequilt[export], on Linux, or "
            "choose int4"
        ) from error
    finally:
        logging.disable(before)
    return torch, bitsandbytes.functional
