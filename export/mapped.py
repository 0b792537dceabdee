"""Weights that are mapped from files: read one after the other, they never are in memory together."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


@contextmanager
def reading(tensor: ir.TensorProtocol) -> Iterator[NDArray[Any]]:
    """The numbers of a tensor; behind the block the pages that they lie in are the system's again.

    They can still be read then, and come from the file once more. Without this, every weight that was ever looked
    at would count as memory of this process.
    """
    try:
        yield tensor.numpy()
    finally:
        let_go(tensor)


def let_go(tensor: ir.TensorProtocol) -> None:
    """Give the pages of a mapped tensor back to the system."""
    if isinstance(tensor, ir.ExternalTensor) and tensor.raw is not None:
        tensor.raw.madvise(mmap.MADV_DONTNEED)


def content(tensor: ir.TensorProtocol) -> bytes | memoryview:
    """Bytes of a tensor as files hold them, not copied where they are mapped."""
    if tensor.dtype.bitwidth < 8:
        return tensor.tobytes()
    array = np.ascontiguousarray(tensor.numpy())
    return array.reshape(-1).view(np.uint8).data


class Turned(ir.LazyTensor):
    """A matrix that another tensor holds transposed; it is turned whenever it is read, and not kept."""

    def __init__(self, source: ir.TensorProtocol, name: str) -> None:
        rows, columns = source.shape.numpy()
        self.source = source
        super().__init__(self._turn, source.dtype, ir.Shape([columns, rows]), name=name)

    def _turn(self) -> ir.TensorProtocol:
        with reading(self.source) as rows:
            return ir.tensor(rows.T.copy(), name=self.name)
