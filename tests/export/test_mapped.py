"""Mapped weights are read one after the other: what was read is the system's again, and still there to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.mapped import Turned, content, reading
from tests.export.graphs import Builder

SIDE = 1024


def mapped(path: Path) -> tuple[ir.ExternalTensor, np.ndarray]:
    """A matrix of 4 MiB in a file."""
    values = np.random.default_rng(1).standard_normal((SIDE, SIDE)).astype(np.float32)
    path.write_bytes(values.tobytes())
    shape = ir.Shape([SIDE, SIDE])
    return ir.ExternalTensor(str(path), 0, values.nbytes, ir.DataType.FLOAT, shape=shape, name="w"), values


def resident_bytes(path: Path) -> int:
    """How much of a file is in this process's memory, by the kernel's account."""
    total, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            counted = line.endswith(str(path))
        elif counted and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def test_pages_are_given_back(tmp_path: Path) -> None:
    """While it is read a tensor is in memory, afterwards it is not, and it reads the same again."""
    tensor, values = mapped(tmp_path / "w.bin")
    with reading(tensor) as held:
        assert np.array_equal(held, values)
        assert resident_bytes(tmp_path / "w.bin") == values.nbytes
    assert resident_bytes(tmp_path / "w.bin") == 0
    assert np.array_equal(tensor.numpy(), values)


def test_a_turned_matrix_is_the_transposed_one(tmp_path: Path) -> None:
    """Its numbers and bytes are those of the transposed array, and reading it keeps nothing."""
    tensor, values = mapped(tmp_path / "w.bin")
    turned = Turned(tensor, "w.t")
    assert np.array_equal(turned.numpy(), values.T)
    assert bytes(content(turned)) == values.T.tobytes()
    assert resident_bytes(tmp_path / "w.bin") == 0


def test_a_turned_weight_is_quantized_once_from_its_file(tmp_path: Path) -> None:
    """Two graphs, each with a turned form of its own, share the integers; they are those of the plain matrix."""
    tensor, values = mapped(tmp_path / "w.bin")
    stock = Stock()
    found = []
    for held in (Turned(tensor, "w"), Turned(tensor, "w"), ir.tensor(values.T.copy(), name="w")):
        b = Builder(0)
        weight = ir.val("w", const_value=held)
        b.graph.register_initializer(weight)
        model = b.model(y=b.op("MatMul", b.input("x", [2, SIDE]), weight, shape=[2, SIDE], name="y"))
        quantize_weights(model, "int8", stock)
        found.append([model.graph.initializers[f"w.{part}"].const_value for part in "qs"])
    first, second, plain = found
    assert first[0] is second[0]
    for one, other in zip(first, plain, strict=True):
        assert one is not None
        assert other is not None
        assert np.array_equal(one.numpy(), other.numpy())
    assert resident_bytes(tmp_path / "w.bin") == 0
