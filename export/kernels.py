"""What onnxruntime's kernels do with memory: which outputs have none of their own, and what a kernel takes meanwhile.

Read from the kernels (onnxruntime/core/providers/cpu, onnxruntime/contrib_ops/cpu, onnxruntime/core/mlas) and held
against what they really allocate, one kernel at a time on onnxruntime 1.31.1 (tests/export/test_kernels.py).
There is one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from export.gradient.dims import Dims, broadcast, dims_of, dtype_of
from export.gradient.present import present
from export.packing import is_nbits, packable, packed_scratch

ALIASES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
# Kernels that write over their first input at its last use, if shape and element size agree. Plain arithmetic
# (Add, Mul, Neg, Exp, ...), Erf, Gelu and all normalizations do not.
IN_PLACE = frozenset(
    {
        *("Relu", "LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "ThresholdedRelu", "Softplus", "Softsign"),
        *("Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Clip", "Shrink", "Cast", "CastLike", "Trilu"),
        "ScatterElements",
    }
)
# Kernels of the runtime do not exist for these: it replaces them by their definition when it loads a graph.
INLINED = frozenset({"GroupNormalization", "HardSwish", "Mish"})

# Kernels that take what they need meanwhile before they ask for their output.
SCRATCH_FIRST = frozenset({("com.microsoft", "MatMulBnb4")})

CONV_SEGMENT_BYTES = 65536  # MLAS_CONV_WORKING_BUFFER_SIZE_PER_THREAD
GEMM_PANEL_BYTES = 38016  # what an integer product packs one panel into

Sizes = list[int]


def scratch(node: ir.Node, rank: int, packed: bool = False) -> Sizes:
    """What a kernel allocates while it runs, beside its outputs, in bytes; all of it is alive at once.

    Args:
        node: of a graph with known shapes.
        rank: what a rank symbol counts.
        packed: whether the session packed its weights.
    """
    if packed and is_nbits(node) and packable(node) is not None:
        return packed_scratch(node, rank)
    rule = RULES.get((node.domain, node.op_type))
    return [] if rule is None else [size for size in rule(node, rank) if size > 0]


def number(dims: Dims, rank: int) -> int:
    """Elements of a shape; a rank symbol counts `rank`."""
    return math.prod(rank if isinstance(dim, str) else dim for dim in dims)


def _bytes(value: ir.Value, rank: int) -> int:
    return number(dims_of(value), rank) * dtype_of(value).bitwidth // 8


def _input(node: ir.Node, position: int) -> ir.Value:
    return present(node.inputs[position])


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def _conv(node: ir.Node, rank: int) -> Sizes:
    """MlasConvPrepare: a product as it stands, the whole input expanded, or segments of fixed size."""
    x, w, y = (dims_of(value) for value in (_input(node, 0), _input(node, 1), node.outputs[0]))
    spatial = len(x) - 2
    channels, kernel, pixels = number(w[1:2], rank), number(w[2:], rank), number(y[2:], rank)
    filters = number(w[:1], rank) // _int(node, "group", 1)
    plain = all(s == 1 for s in _ints(node, "strides", [1])) and not any(_ints(node, "pads", [0]))
    if plain and kernel == 1:
        return []
    flat = plain and spatial == 2 and channels == 1 and all(d == 1 for d in _ints(node, "dilations", [1]))
    if flat and (w[3] == x[3] or (w[2] == x[2] and w[3] == 1)):
        return []
    if filters > pixels:
        return [4 * pixels * channels * kernel]
    return [CONV_SEGMENT_BYTES]


def _conv_transpose(node: ir.Node, rank: int) -> Sizes:
    """One group's columns: [out channels x kernel, pixels of the input]."""
    x, w = dims_of(_input(node, 0)), dims_of(_input(node, 1))
    return [4 * number(w[1:], rank) * number(x[2:], rank)]


def _integer_conv(node: ir.Node, rank: int) -> Sizes:
    """ConvInteger: columns of one byte for one group."""
    w, y = dims_of(_input(node, 1)), dims_of(node.outputs[0])
    if number(w[2:], rank) == 1 and all(s == 1 for s in _ints(node, "strides", [1])):
        return [GEMM_PANEL_BYTES]
    return [number(w[1:], rank) * number(y[2:], rank), GEMM_PANEL_BYTES]


def _quantized_conv(node: ir.Node, rank: int) -> Sizes:
    """QLinearConv: sums of 32 bits, input and output with channels last, columns of one byte."""
    x, w, y = (dims_of(value) for value in (_input(node, 0), _input(node, 3), node.outputs[0]))
    pixels = number(y[2:], rank)
    columns = number(w[1:], rank) * _int(node, "group", 1) * pixels
    pointwise = number(w[2:], rank) == 1 and all(s == 1 for s in _ints(node, "strides", [1]))
    plain = number(x[1:], rank)
    return [4 * number(y[1:], rank), plain, number(y[1:], rank), 0 if pointwise else columns, number(w, rank)]


def _softmax(node: ir.Node, rank: int) -> Sizes:
    """Over another axis than the last: input and output transposed."""
    dims = dims_of(node.outputs[0])
    axis = _int(node, "axis", -1) % len(dims)
    return [] if axis == len(dims) - 1 else 2 * [_bytes(node.outputs[0], rank)]


def _where(node: ir.Node, rank: int) -> Sizes:
    """The condition selects from each side into a tensor of its own, as wide as the two together."""
    condition, *sides = (dims_of(_input(node, i)) for i in range(3))
    width = dtype_of(node.outputs[0]).bitwidth // 8
    return [width * number(broadcast(condition, side), rank) for side in sides]


def _recurrent(gates: int) -> Callable[[ir.Node, int], Sizes]:
    """Products of all steps before the first one runs; a second direction has its own, and everything reversed."""

    def rule(node: ir.Node, rank: int) -> Sizes:
        steps, batch, features = (number((dim,), rank) for dim in dims_of(_input(node, 0)))
        hidden, directions = number(dims_of(_input(node, 2))[2:], rank), number(dims_of(_input(node, 2))[:1], rank)
        state = 4 * batch * hidden
        attribute = node.attributes.get("direction")
        reverse = directions == 2 or (attribute is not None and attribute.as_string() == "reverse")
        back = [steps * state, 4 * steps * batch * features] if reverse and gates > 1 else []
        at_once = directions if gates > 1 else 1  # RNN takes one direction after the other
        return [*at_once * [gates * steps * state], *(3 * directions + 2) * [state], *back]

    return rule


def _einsum(node: ir.Node, rank: int) -> Sizes:
    """Every operand as its product wants it, and the product before it is the output's."""
    operands = [_bytes(value, rank) for value in node.inputs if value is not None]
    return [*operands, _bytes(node.outputs[0], rank)]


def _weights_unpacked(node: ir.Node, rank: int) -> Sizes:
    """A product with 4 or 8 bits that was not packed: the whole weight as floats."""
    return [4 * _int(node, "K", 0) * _int(node, "N", 0)]


def _input_quantized(node: ir.Node, rank: int) -> Sizes:
    """DynamicQuantizeMatMul: the input in one byte."""
    return [number(dims_of(_input(node, 0)), rank), GEMM_PANEL_BYTES]


def _moments(copies: int) -> Callable[[ir.Node, int], Sizes]:
    return lambda node, rank: copies * [_bytes(_input(node, 0), rank)]


RULES: dict[tuple[str, str], Callable[[ir.Node, int], Sizes]] = {
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "ConvInteger"): _integer_conv,
    ("", "QLinearConv"): _quantized_conv,
    ("", "Softmax"): _softmax,
    ("", "LogSoftmax"): _softmax,
    ("", "Where"): _where,
    ("", "LSTM"): _recurrent(4),
    ("", "GRU"): _recurrent(3),
    ("", "RNN"): _recurrent(1),
    ("", "Einsum"): _einsum,
    ("", "MatMulInteger"): lambda node, rank: [GEMM_PANEL_BYTES],
    ("", "MeanVarianceNormalization"): _moments(2),
    ("", "LRN"): _moments(2),
    ("com.microsoft", "BiasGelu"): _moments(1),
    ("com.microsoft", "MatMulNBits"): _weights_unpacked,
    ("com.microsoft", "MatMulBnb4"): _weights_unpacked,
    ("com.microsoft", "DynamicQuantizeMatMul"): _input_quantized,
    ("com.microsoft", "MatMulIntegerToFloat"): lambda node, rank: [GEMM_PANEL_BYTES],
}
