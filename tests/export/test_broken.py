"""The table of broken combinations against the runtimes themselves: what it names is wrong, all else is right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel
from console.progress import progress
from devices.memory import MIB
from devices.plan import Board
from export.formats.broken import BROKEN, Use, refuse, refuse_format
from export.formats.grid import Grid
from export.formats.registry import STORED
from export.pipeline import ExportRequest, export_model
from quant.blocks import SIZES
from quant.codes import Codes, dequantize_codes
from quant.pack import pack
from tests.conftest import ROOT
from tests.export.quantized import Made
from wire.keys import new_key

Array = npt.NDArray[Any]
Answer = tuple[ir.Value, Array]

PYTHONS = {"the installed runtime": Path(sys.executable), "the floor": ROOT / ".venv-floor" / "bin" / "python"}
RUNS = """
import json, sys, numpy as np, onnxruntime as ort
ort.set_default_logger_severity(4)
levels = {"disable": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED"}
for line in sys.stdin:
    path, level = json.loads(line)
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, "ORT_" + levels[level])
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    with np.load(path + ".npz") as file:
        given = {name: file[name] for name in file.files}
    wanted = given.pop("wanted")
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found = session.run(None, given)[0]
        right = bool(np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max())
    except Exception:
        right = False
    print(json.dumps([ort.__version__, right]))
"""
K, N, ROWS = 1024, 16, 3


@dataclass(frozen=True)
class Case:
    """A use, the graph of it with what it must return, and the optimizations under which it runs."""

    use: Use
    make: Callable[[Made, Use], Answer]
    level: str = "disable"


def drawn(made: Made, rows: int, columns: int, use: Use) -> tuple[Array, Array, Array, Array]:
    """Integers, scales and zero points in blocks of a row, and the weight that they stand for."""
    count = columns // use.block
    q = made.rng.integers(0, 2**use.bits, (rows, columns)).astype(np.uint8)
    s = made.rng.uniform(0.01, 0.1, (rows, count)).astype(np.float32)
    z: Array = np.full((rows, count), 2 ** (use.bits - 1), np.uint8)
    if use.zeros == "whole":
        z = made.rng.integers(0, 2**use.bits, (rows, count)).astype(np.uint8)
    if use.zeros == "float":
        z = made.rng.uniform(0, 2**use.bits, (rows, count)).astype(np.float32)
    wide = (np.repeat(part.astype(np.float64), use.block, axis=1) for part in (z, s))
    return q, s, z, (q - next(wide)) * next(wide)


def packed(values: Array, bits: int) -> Array:
    """As bytes, the first number in the lowest bits."""
    if bits != 2:
        return pack(values, bits)
    values = np.pad(values, ((0, 0), (0, -values.shape[-1] % 4)))
    quarters = [values[..., i::4] << np.uint8(2 * i) for i in range(4)]
    return np.asarray(quarters[0] | quarters[1] | quarters[2] | quarters[3])


def product(made: Made, use: Use) -> Answer:
    """MatMulNBits."""
    q, s, z, w = drawn(made, N, K, use)
    x = made.x(ROWS, K)
    count = K // use.block
    parts = [made.held("q", packed(q, use.bits).reshape(N, count, -1)), made.held("s", s)]
    if use.zeros != "none":
        parts.append(made.held("z", packed(z, use.bits) if use.zeros == "whole" else z))
    given: dict[str, Any] = {"K": K, "N": N, "bits": use.bits, "block_size": use.block}
    return made.op("MatMulNBits", x, *parts, domain="com.microsoft", **given), made.feeds["x"] @ w.T


def rows(made: Made, use: Use) -> Answer:
    """GatherBlockQuantized."""
    columns = use.block * (use.count or 1)
    q, s, z, w = drawn(made, 20, columns, use)
    ids = made.indices(20)

    def stored(name: str, values: Array) -> ir.Value:
        if use.stored == "uint8":
            return made.held(name, packed(values, use.bits))
        flat = pack(values.reshape(-1), 4)
        return made.held(name, ir.PackedTensor(flat, ir.DataType.UINT4, shape=ir.Shape(values.shape), name=name))

    parts = [stored("q", q), ids, made.held("s", s)] + ([stored("z", z)] if use.zeros == "whole" else [])
    given: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "block_size": use.block}
    given |= {} if use.stored == "uint4" else {"bits": use.bits}
    return made.op("GatherBlockQuantized", *parts, domain="com.microsoft", **given), w[made.feeds["ids"]]


def codes(made: Made, use: Use) -> Answer:
    """MatMulBnb4."""
    values = made.rng.integers(0, 256, N * K // 2).astype(np.uint8)
    scales = made.rng.uniform(0.5, 2, -(-N * K // use.block)).astype(np.float32)
    shape = (N, K) if use.turned else (K, N)
    w = dequantize_codes(Codes(values, scales, shape, "nf4", use.block)).astype(np.float64)
    given: dict[str, Any] = {"K": K, "N": N, "block_size": use.block, "quant_type": 1}
    given |= {} if use.turned else {"transB": 0}
    parts = made.held("q", values), made.held("s", scales)
    y = made.op("MatMulBnb4", made.x(ROWS, K), *parts, domain="com.microsoft", **given)
    return y, made.feeds["x"] @ (w.T if use.turned else w)


def linear(made: Made, use: Use) -> Answer:
    """DequantizeLinear before a product."""
    parts: list[Array]
    attributes: dict[str, Any] = {}
    if use.bits == 8:
        q = made.rng.integers(-127, 128, (N, K)).astype(np.int8)
        s = made.rng.uniform(0.01, 0.1, N).astype(np.float32)
        w, axis = q * s[:, None].astype(np.float64), 0
        parts = [q, s, np.zeros(N, np.int8)]
    else:
        q, s, z, w = drawn(made, N, K, replace(use, zeros="whole"))
        parts, axis, attributes = [q, s, z], 1, {"block_size": use.block}
    parts = parts if use.turned else [np.ascontiguousarray(part.T) for part in parts]
    held = [made.held("qsz"[i], _typed(part, use.bits) if i != 1 else part) for i, part in enumerate(parts)]
    axis = axis if use.turned else 1 - axis
    weight = made.op("DequantizeLinear", *held, axis=axis, **attributes)
    x = made.x(ROWS, K)
    if use.turned:
        return made.op("FusedMatMul", x, weight, domain="com.microsoft", transB=1), made.feeds["x"] @ w.T
    return made.op("MatMul", x, weight), made.feeds["x"] @ w.T


def _typed(array: Array, bits: int) -> Array | ir.TensorProtocol:
    if bits == 8:
        return array
    return ir.PackedTensor(pack(array.reshape(-1), 4), ir.DataType.UINT4, shape=ir.Shape(array.shape))


NBITS = [(bits, block, zeros) for bits in (2, 4, 8) for block in (16, 256, 512) for zeros in ("none", "whole", "float")]
TABLES = [(bits, zeros, count) for bits in (2, 4, 8) for zeros in ("none", "whole") for count in (3, 4)]
CASES = [
    *(Case(Use("MatMulNBits", bits, block, zeros, K // block), product) for bits, block, zeros in NBITS),
    *(Case(Use("GatherBlockQuantized", bits, 32, zeros, count), rows) for bits, zeros, count in TABLES),
    *(Case(Use("GatherBlockQuantized", 4, 32, "whole", count, "uint4"), rows) for count in (3, 4)),
    *(Case(Use("MatMulBnb4", 4, block), codes) for block in (8, 16, 64, 256, 512)),
    Case(Use("MatMulBnb4", 4, 64, turned=False), codes),
    *(
        Case(Use("DequantizeLinear", bits, block, "whole", None, stored, turned), linear, level)
        for bits, block, stored in ((8, 0, "int8"), (4, 32, "uint4"))
        for turned in (True, False)
        for level in ("basic", "extended")
    ),
]


@pytest.mark.parametrize("op", sorted({broken.op for broken in BROKEN}))
def test_what_is_in_the_table_is_refused(op: str) -> None:
    """With the operator, the release, what happens and where it is from."""
    for broken in (line for line in BROKEN if line.op == op):
        bits, zeros = (broken.bits or (4,))[0], (broken.zeros or ("none",))[0]
        block = 64 if broken.blocks is None else broken.blocks[1] * 2
        release = "1.22" if broken.since == (0, 0) else "1.31"
        given: dict[str, Any] = {"stored": broken.stored or "uint8", "turned": broken.turned is not False}
        with pytest.raises(UnsupportedModel, match=f"onnxruntime {release} computes right, found {op} with") as refusal:
            refuse(op, bits, block, zeros, release, level=broken.level, **given)
        assert any(line.what in str(refusal.value) and line.happens in str(refusal.value) for line in BROKEN)


def test_the_page_has_the_table() -> None:
    """Every line is in the documentation with its outcome and its source."""
    page = (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    lines = [f"| `{line.op}` | {line.what} | {line.happens}" for line in BROKEN]
    assert [line for line in lines if line not in page] == []
    assert [line.source for line in BROKEN if f"| {line.source} |" not in page] == []


@pytest.mark.parametrize("asked", ["board", "keep"])
def test_an_export_stops_before_it_begins(asked: str, tmp_path: Path) -> None:
    """A format that a board's runtime gets wrong is refused before the source is looked at, and nothing is written."""
    quant, keep = ("int8-blocks", {}) if asked == "board" else ("int8", {"*query*": "int8-blocks"})
    board = Board("old", 200 * MIB, "serve", quant, onnxruntime_max="1.22.0")
    key, out = new_key("publisher", "tester"), tmp_path / "out"
    request = ExportRequest("no such source", "", (), (board,), key, out, keep=keep)
    with progress("exporting", quiet=True) as bar, pytest.raises(UnsupportedModel, match="MatMulNBits with 8 bits"):
        export_model(request, bar)
    assert not out.exists()


def test_formats_of_exports_are_not_refused() -> None:
    """Every block and kind of zero point that exports offer is right on any runtime, but for 8-bit blocks in 1.22."""
    for name in (*STORED, "fp32"):
        for block in (None, *SIZES):
            for grid in (Grid(block=block), Grid(block=block, zero_points=True)):
                for release in (None, "1.22.1", "1.23.2", "1.26.0", "1.31.1"):
                    old = release in {None, "1.22.1"}
                    with pytest.raises(UnsupportedModel) if old and name == "int8-blocks" else nullcontext():
                        refuse_format(name, grid, release)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of every case, with what it is fed and must return."""
    where = tmp_path_factory.mktemp("broken")
    for number, case in enumerate(CASES):
        made = Made(number)
        y, wanted = case.make(made, case.use)
        made.graph.outputs.append(y)
        ir.save(ir.Model(made.graph, ir_version=10), where / f"{number}.onnx")
        fed: dict[str, Any] = made.feeds
        np.savez(where / f"{number}.onnx.npz", wanted=wanted, **fed)
    return where


@pytest.mark.heavy
@pytest.mark.parametrize("which", PYTHONS)
def test_the_table_says_what_a_runtime_gets_wrong(which: str, folder: Path) -> None:
    """Of every case, a runtime computes what numpy does exactly if no line of the table concerns it."""
    if not PYTHONS[which].exists():
        pytest.skip("the oldest supported runtime is not installed beside this one")
    asked = "\n".join(json.dumps([str(folder / f"{n}.onnx"), case.level]) for n, case in enumerate(CASES))
    done = subprocess.run([str(PYTHONS[which]), "-c", RUNS], input=asked, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(CASES)
    wrong = []
    for case, (release, right) in zip(CASES, answers, strict=True):
        named = [broken.what for broken in BROKEN if broken.concerns(case.use, release, case.level)]
        if right == bool(named):
            wrong.append((case.use, case.level, right, named))
    assert wrong == []
