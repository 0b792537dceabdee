"""Fix a bucket and fold shape arithmetic away: the graph that is cut, differentiated and run.

The order of passes is the measured one: dimensions first (with symbolic ones half of the shape arithmetic
stays), then constants, opset 21, Gelu, shapes. onnxruntime's own offline optimizer must not run
before this or after differentiation: it renames nodes and turns MatMul + Add into Gemm between Reshapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass
from onnxscript.version_converter import convert_version

from console.errors import UnsupportedModel
from export.control import lift_weights
from export.gelu import fuse_gelu
from export.gemm import split_gemm
from export.quiet import quiet
from export.simplify import simplify
from export.sources.folder import first_line
from export.tie import tie_weights
from export.values import bodies

OPSET = 21
IR_VERSION = 10
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
LONGEST_LIST = 1 << 20
SHOWN = 5


def freeze(
    model: ir.Model, batch: int, sequence: int | None = None, sizes: Mapping[str, int] | None = None
) -> ir.Model:
    """A model of fixed batch and sequence that computes the same.

    Args:
        model: a captured graph, with or without slots and head; left as it is. Weights are shared.
        batch: examples.
        sequence: tokens, for text; pictures have the size that was fixed at capture.
        sizes: of further symbolic dimensions of inputs, by name.

    Returns:
        A new model of opset 21 and IR version 10. Inputs, outputs and weights keep their names; linear
        layers are MatMul with a weight [in, out], or read the table that they are tied to; every float value has
        a known shape, in which only the ranks of slots (`r_0`, `r_1`, ...) are symbolic; defaults of inputs are
        as they were.

    Raises:
        UnsupportedModel: a dimension stays unknown (the values are named), or sizes contradict each other.
    """
    frozen = model.clone()
    _fix_inputs(frozen.graph, batch, sequence, sizes or {})
    _fold(frozen)
    frozen.ir_version = IR_VERSION
    split_gemm(frozen)
    fuse_gelu(frozen)
    RemoveUnusedNodesPass()(frozen)
    _forget_shapes(frozen.graph)
    with quiet():  # it logs a contradiction and leaves all shapes unknown
        infer = ShapeInferencePass(check_type=True, strict_mode=True, data_prop=_lists_are_short(frozen))
        infer(frozen)
        assumed: set[ir.Value] = set()
        while _keep_loop_shapes(frozen.graph, assumed):
            infer(frozen)
    _refuse_contradiction(frozen.graph, batch, sequence)
    _refuse_unknown(frozen.graph)
    tie_weights(frozen)
    return frozen


def _fold(model: ir.Model) -> None:
    """Constants folded and opset 21, in place.

    Raises:
        UnsupportedModel: operators and the shapes of what they read do not fit together.
    """
    try:
        simplify(model)
        lift_weights(model.graph)
        # not a mere relabelling: GridSample, DFT and GroupNormalization mean something else from 20 or 21 on
        convert_version(model, OPSET)
    except UnsupportedModel:
        raise
    except Exception as error:  # onnxscript has no common class of errors, and trusts the types and shapes of a graph
        raise UnsupportedModel(
            f"expected a graph whose constants can be folded, found that they cannot ({first_line(error)}); "
            "export it again"
        ) from error


def _fix_inputs(graph: ir.Graph, batch: int, sequence: int | None, sizes: Mapping[str, int]) -> None:
    """Write the sizes into the inputs that examples come in by; slots and head keep theirs.

    A symbol that nobody knows is the batch as a first dimension, and the tokens as the second of integers.
    """
    known = {"batch": batch, **({} if sequence is None else {"sequence": sequence}), **sizes}
    for value in graph.inputs:
        if value.is_initializer() or value.shape is None:
            continue
        text = value.dtype == ir.DataType.INT64 and len(value.shape) == 2
        fixed = [
            dim if isinstance(dim, int) else _size(value, axis, dim.value, known, text)
            for axis, dim in enumerate(value.shape)
        ]
        value.shape = ir.Shape(fixed)
    for value in graph.outputs:
        value.shape = None


def _size(value: ir.Value, axis: int, symbol: str | None, known: Mapping[str, int], text: bool) -> int:
    """What a symbolic dimension is.

    Raises:
        UnsupportedModel: nobody says.
    """
    if symbol is not None and symbol in known:
        return known[symbol]
    if axis == 0:
        return known["batch"]
    if axis == 1 and text:
        if "sequence" not in known:
            raise UnsupportedModel(f"expected a sequence length for the text input {value.name}, found none; name one")
        return known["sequence"]
    raise UnsupportedModel(
        f"expected a size for dimension {axis} of the input {value.name}, found {symbol or 'a nameless one'}; "
        f"say --size {symbol or 'NAME'}=N"
    )


def _forget_shapes(graph: ir.Graph) -> None:
    """Drop what the exporter and the optimizer wrote: names of symbols from there must not survive."""
    for node in graph:
        for value in node.outputs:
            value.shape = None
        for body in bodies(node):
            for value in body.inputs:
                value.shape = value.shape if value.shape is not None and value.shape.is_static() else None
            _forget_shapes(body)


def _lists_are_short(model: ir.Model) -> bool:
    """Whether every list of integers is one that inference may keep the entries of.

    It keeps those of any length, as if each were a size: a Range of 2^40 would fill all memory. Lists of sizes are
    short; what long ones hold is no size.
    """
    known = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model.clone()).model
    values = [*known.graph.inputs, *(value for node in known.graph.all_nodes() for value in node.outputs)]
    lengths = [v.shape[0] for v in values if v.shape is not None and len(v.shape) == 1 and v.dtype in INTEGERS]
    return all(length <= LONGEST_LIST for length in lengths if isinstance(length, int))


def _keep_loop_shapes(graph: ir.Graph, assumed: set[ir.Value]) -> bool:
    """What a Loop carries has one shape where its body keeps it: inference allows it another after every turn.

    So the body is inferred with the shape that enters the first turn. If the same leaves it, then by induction every
    turn and the loop; if not, the assumption is taken back.

    Args:
        graph: after shape inference.
        assumed: inputs of bodies that were given a shape, kept from call to call.

    Returns:
        Whether something was changed, so that inference has to run again.
    """
    found = False
    for node in graph:
        for body in bodies(node):
            found |= _keep_loop_shapes(body, assumed)
        if node.op_type != "Loop" or node.domain:
            continue
        body = node.attributes["body"].as_graph()
        for first, begun, turned, last in zip(
            node.inputs[2:], body.inputs[2:], body.outputs[1:], node.outputs, strict=False
        ):
            shape = None if first is None else first.shape
            if last.shape is not None or shape is None or not shape.is_static():
                continue
            if shape == turned.shape and shape == begun.shape:
                last.shape, found = shape, True
            elif begun not in assumed:
                begun.shape, found = shape, True
                assumed.add(begun)
                _forget_shapes(body)
            elif begun.shape is not None:
                begun.shape, found = None, True
                _forget_shapes(body)
    return found


def _refuse_contradiction(graph: ir.Graph, batch: int, sequence: int | None) -> None:
    """Some node has a shape, or inference stopped at one whose inputs do not fit together."""
    if all(value.shape is None for node in graph for value in node.outputs):
        size = f"batch {batch}" if sequence is None else f"batch {batch} and sequence {sequence}"
        raise UnsupportedModel(
            f"expected sizes that fit together at {size}, found some that do not; "
            "is the sequence longer than the model has positions?"
        )


def _refuse_unknown(graph: ir.Graph) -> None:
    """Every float value has a shape; only dimensions of slots are symbolic.

    Shape inference invents names (`unk__10`) for what it cannot know, and says nothing.
    """
    ranks = {
        dim.value
        for value in graph.inputs
        if value.is_initializer() and value.shape is not None
        for dim in value.shape
        if isinstance(dim, ir.SymbolicDim)
    }
    values = [value for node in graph for value in node.outputs if value.name]
    unknown = []
    for value in values:
        if value.dtype is not None and value.dtype not in FLOATS:
            continue
        symbols = [] if value.shape is None else [d.value for d in value.shape if isinstance(d, ir.SymbolicDim)]
        if value.shape is None or any(symbol not in ranks for symbol in symbols):
            unknown.append(f"{value.name} {value.shape or 'of unknown rank'}")
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise UnsupportedModel(
            "expected every size to follow from batch and sequence, found sizes that depend on the data: "
            f"{', '.join(unknown[:SHOWN])}{more}; export a model without data-dependent shapes"
        )
