"""The door for ONNX files: everything is checked before anything is loaded, and all problems are said at once.

Weights stay where they are, in the file or in its external data, and are mapped when they are read; the file of
the user is never written to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from console.errors import StorageError, UnsupportedModel
from export.linears import name_weights
from export.preprocess import Preprocessing
from export.quiet import quiet
from export.sources.captured import Captured, StatePair
from export.sources.folder import first_line
from export.sources.onnx_graph import check_function, check_graph
from export.sources.onnx_operators import check_operators
from export.sources.onnx_opset import to_common_opset
from export.sources.onnx_sizes import Sizes, name_sizes
from export.sources.onnx_tensors import Store, size_bytes
from export.sources.onnx_wire import INLINE_BYTES, Place, read_proto
from export.sources.problems import Problems
from export.sources.scopes import name_after_modules
from export.sources.states import check_states
from wire.files import file_digest


def capture_onnx(
    path: Path, work: Path, sizes: Mapping[str, int] | None = None, states: Mapping[str, str] | None = None
) -> Captured:
    """Take in an ONNX file.

    Args:
        path: the file; external data lies in its folder or below.
        work: made when absent; nothing of this source needs it.
        sizes: of symbolic dimensions, by name. The one that inputs begin with is the micro-batch and needs none.
        states: outputs by the input that they are fed to at the next run.

    Raises:
        StorageError: a file cannot be read.
        BadData: the file is broken, or reaches for files outside its folder.
        UnsupportedModel: it is whole, but has operators, types or sizes that cannot be exported.
    """
    path = path.absolute()
    proto, places = read_proto(path)
    store = Store(path, places, Problems(path))
    check_graph(proto.graph, store)
    for function in proto.functions:
        check_function(function, store)
    check_operators(proto, store.problems)
    chosen = name_sizes(proto.graph, sizes or {}, store.problems)
    store.problems.raise_any()
    model = _loaded(proto, store, chosen)
    pairs = tuple(StatePair(*pair) for pair in (states or {}).items())
    check_states(model, pairs)
    work.mkdir(parents=True, exist_ok=True)
    return Captured(
        model=model,
        name=path.stem,
        task="onnx",
        source_sha256=_digest(store),
        modality="tensors",
        hidden=_hidden(model),
        preprocess=Preprocessing("tensors"),
        original=path,
        modules=name_weights(model),
        states=pairs,
        sizes=chosen.given,
        batches=chosen.batches,
    )


def _loaded(proto: onnx.ModelProto, store: Store, chosen: Sizes) -> ir.Model:
    """The checked file as a model whose large weights are places in files."""
    stripped = {proto.graph.initializer[index].name: place for index, place in store.places.items()}
    held = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name in stripped}
    empty = {name: onnx.TensorProto(name=name, data_type=t.data_type, dims=[0]) for name, t in held.items()}
    shapes = {name: list(tensor.dims) for name, tensor in held.items()}
    for tensor in proto.graph.initializer:
        if tensor.name in empty:
            tensor.CopyFrom(empty[tensor.name])
    try:
        with quiet():
            model = ir.from_proto(proto)
            _place_weights(model, store, stripped, shapes)
            _fix_inputs(model.graph, chosen)
            InlinePass()(model)
            to_common_opset(model)
            name_after_modules(model)
    except UnsupportedModel:
        raise
    except Exception as error:  # onnx_ir has no common class of errors, and the file passed every check of ours
        raise UnsupportedModel(
            f"expected an ONNX model that can be read in {store.path}, found that it cannot ({first_line(error)}); "
            "export it again"
        ) from error
    return model


def _place_weights(model: ir.Model, store: Store, inside: Mapping[str, Place], shapes: Mapping[str, list[int]]) -> None:
    """Point every large weight at its bytes: an absolute path, which was checked, and no folder to look in."""
    for name, place in inside.items():
        value = model.graph.initializers[name]
        if value.const_value is not None:
            value.const_value = _external(value.const_value, store.path, place.offset, shapes[name])
            value.shape = ir.Shape(shapes[name])
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _found(value.const_value, store)
    nodes = [*model.graph.all_nodes(), *(n for function in model.functions.values() for n in function.all_nodes())]
    for node in nodes:
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                node.attributes[name] = ir.AttrTensor(name, _found(attribute.as_tensor(), store))


def _found(held: ir.TensorProtocol, store: Store) -> ir.TensorProtocol:
    """A tensor with its external data, which is read where it is small."""
    if not isinstance(held, ir.ExternalTensor) or held.location not in store.external:
        return held
    path = store.external[str(held.location)]
    found = _external(held, path, held.offset or 0, list(held.shape.numpy()))
    return ir.tensor(found.numpy().copy(), found.dtype, name=found.name) if found.nbytes <= INLINE_BYTES else found


def _external(held: ir.TensorProtocol, path: Path, offset: int, dims: list[int]) -> ir.ExternalTensor:
    length = size_bytes(int(held.dtype), prod(dims))
    return ir.ExternalTensor(str(path), offset, length, held.dtype, shape=ir.Shape(dims), name=held.name or "")


def _fix_inputs(graph: ir.Graph, chosen: Sizes) -> None:
    """Write the sizes into the inputs, and make what only looks like an input (a weight, before IR 4) a weight."""
    for position in reversed(range(len(graph.inputs))):
        if graph.inputs[position].is_initializer():
            graph.inputs.pop(position)
    for value in graph.inputs:
        value.shape = ir.Shape(chosen.shapes[str(value.name)])
    for value in graph.outputs:
        if value.producer() is not None:
            value.shape = None  # it follows from the inputs


def _hidden(model: ir.Model) -> str | None:
    """The output that a head is put on by default: as Hugging Face names it."""
    for value in model.graph.outputs:
        if value.name == "last_hidden_state" and value.dtype == ir.DataType.FLOAT:
            return value.name
    return None


def _digest(store: Store) -> str:
    """SHA-256 over the names and digests of the file and its external data."""
    files = {store.path.name: store.path, **dict(sorted(store.external.items()))}
    try:
        lines = [f"{name}\0{file_digest(path)}\n" for name, path in files.items()]
    except OSError as error:
        raise StorageError(f"expected to read {error.filename}, which failed ({error.strerror})") from error
    return hashlib.sha256("".join(lines).encode()).hexdigest()
