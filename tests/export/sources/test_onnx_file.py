"""ONNX files as they are: what comes through the door computes what the file computes, and nothing is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper

from console.errors import UnsupportedModel, UsageError
from export.capture import capture
from export.fold import freeze
from export.sources.captured import Captured, StatePair
from tests.export.runtime import Array, run, worst
from tests.export.sources.files import FLOAT, INNER, WIDE, accumulator, inputs, perceptron, write


def taken(path: Path, **options: dict[str, int] | dict[str, str]) -> Captured:
    """An ONNX file through the door."""
    return capture(str(path), "onnx", path.parent / "work", **options)  # type: ignore[arg-type]  # sizes or states


def original(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """What onnxruntime makes of the user's file."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_same(path: Path, captured: Captured, feeds: dict[str, Array], batch: int = 3) -> None:
    """The frozen graph and the original file agree on every output."""
    wanted, got = original(path, feeds), run(freeze(captured.model, batch, None), feeds)
    assert set(wanted) == set(got)
    assert all(worst(got[name], wanted[name]) <= 1e-6 for name in wanted)


@pytest.mark.parametrize("kind", ["inside", "typed", "external"])
def test_a_file_computes_what_it_did(kind: str, tmp_path: Path) -> None:
    """Weights as raw bytes, as typed numbers or in another file give the same outputs as the original."""
    model = perceptron(typed=kind == "typed")
    path = write(model, tmp_path / "model.onnx", external=kind == "external")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    captured = taken(path)
    assert_same(path, captured, inputs(model, 3))
    assert (captured.task, captured.modality, captured.preprocess.kind) == ("onnx", "tensors", "tensors")
    assert captured.name == "model"
    assert captured.original == path
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.parametrize(
    ("kind", "holder"), [("inside", "model.onnx"), ("typed", "model.onnx"), ("external", "weights.bin")]
)
def test_weights_stay_where_they_are(kind: str, holder: str, tmp_path: Path) -> None:
    """Large weights are places in the user's own files, with their very bytes."""
    path = write(perceptron(typed=kind == "typed"), tmp_path / "model.onnx", external=kind == "external")
    weight = taken(path).model.graph.initializers["up.weight"].const_value
    assert isinstance(weight, ir.ExternalTensor)
    assert Path(weight.path) == tmp_path / holder
    wanted = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert np.array_equal(weight.numpy(), wanted)


def test_the_digest_is_of_all_files(tmp_path: Path) -> None:
    """One other byte of external data is another model."""
    path = write(perceptron(), tmp_path / "model.onnx", external=True)
    first = taken(path).source_sha256
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[5] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert taken(path).source_sha256 != first


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    """The file may list nodes in any order that has no circle."""
    model = perceptron()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path = write(model, tmp_path / "model.onnx")
    captured = taken(path)
    assert [node.op_type for node in captured.model.graph] == ["Gemm", "Relu", "MatMul"]
    assert_same(path, captured, inputs(model, 3))


def test_functions_are_written_out(tmp_path: Path) -> None:
    """A model's own functions become plain nodes."""
    model = perceptron()
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    model.functions.append(helper.make_function("mine", "NegRelu", ["a"], ["c"], body, [helper.make_opsetid("", 18)]))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "NegRelu", "mine"
    path = write(model, tmp_path / "model.onnx")
    captured = taken(path)
    assert [node.op_type for node in captured.model.graph] == ["Gemm", "Relu", "Neg", "MatMul"]
    assert_same(path, captured, inputs(model, 3))


@pytest.mark.parametrize("opset", [9, 13, 20, 21, 22])
def test_opsets_are_brought_together(opset: int, tmp_path: Path) -> None:
    """Older and newer opsets compute the same after conversion."""
    model = perceptron(opset=opset)
    path = write(model, tmp_path / "model.onnx")
    captured = taken(path)
    assert 18 <= captured.model.graph.opset_imports[""] <= 21
    assert_same(path, captured, inputs(model, 3))


def test_weights_that_are_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    """Before IR version 4 every weight is also an input; none of them has to be fed."""
    model = perceptron(opset=9)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, FLOAT, list(tensor.dims)) for tensor in model.graph.initializer
    )
    path = write(model, tmp_path / "model.onnx")
    captured = taken(path)
    assert [value.name for value in captured.model.graph.inputs] == ["x"]
    assert_same(path, captured, inputs(model, 3))


def test_weights_are_known_by_their_modules(tmp_path: Path) -> None:
    """The map from weights to modules is read from the names of nodes."""
    captured = taken(write(perceptron(), tmp_path / "model.onnx"))
    assert captured.modules == {"up.weight": "up", "down.weight": "down"}


@pytest.mark.parametrize(
    ("shapes", "sizes", "found", "batches"),
    [
        ({"a": ["N", 4]}, {}, {"a": ["batch", 4]}, None),
        ({"a": [None, 4]}, {}, {"a": ["batch", 4]}, None),
        ({"a": [None, 4], "b": [0, 5]}, {}, {"a": ["batch", 4], "b": ["batch", 5]}, None),
        ({"a": ["N", "T"]}, {"T": 7}, {"a": ["batch", 7]}, None),
        ({"a": ["N", None]}, {"a.1": 7}, {"a": ["batch", 7]}, None),
        ({"a": ["N", 4], "b": ["N", 4], "c": ["M", 4]}, {"M": 2}, {"a": ["batch", 4], "c": [2, 4]}, None),
        ({"a": ["rows", 4], "b": ["batch_size", 4]}, {"rows": 9}, {"a": [9, 4], "b": ["batch", 4]}, None),
        ({"a": ["N", 4], "h": [2, "N", 4]}, {}, {"a": ["batch", 4], "h": [2, "batch", 4]}, None),
        ({"a": ["N", 4]}, {"N": 5}, {"a": [5, 4]}, (5,)),
        ({"a": [1, 4], "b": [1, 3]}, {}, {"a": [1, 4]}, (1,)),
        ({"a": [6, 4], "b": []}, {}, {"a": [6, 4], "b": []}, (6,)),
    ],
)
def test_sizes_of_inputs(
    shapes: dict[str, list[int | str | None]],
    sizes: dict[str, int],
    found: dict[str, list[int | str]],
    batches: tuple[int, ...] | None,
    tmp_path: Path,
) -> None:
    """The symbol that inputs begin with is the micro-batch; the others are what the user said."""
    captured = taken(write(sums(shapes), tmp_path / "model.onnx"), sizes=sizes)
    got = {
        str(v.name): [d if isinstance(d, int) else d.value for d in v.shape or ()] for v in captured.model.graph.inputs
    }
    assert {name: got[name] for name in found} == found
    assert captured.batches == batches
    assert captured.sizes == sizes


def sums(shapes: dict[str, list[int | str | None]]) -> onnx.ModelProto:
    """One output per input: its sum."""
    nodes = [helper.make_node("ReduceSum", [name], [f"{name}.sum"], keepdims=0) for name in shapes]
    given = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info(f"{name}.sum", FLOAT, []) for name in shapes]
    return helper.make_model(
        helper.make_graph(nodes, "sums", given, outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )


@pytest.mark.parametrize(
    ("shapes", "sizes", "words"),
    [
        ({"a": ["N", "T", None]}, {}, r"dimensions without a size, T, a.2 \(give --size T=N --size a.2=N\)"),
        ({"a": ["P", 4], "b": ["Q", 4]}, {}, r"dimensions without a size, P, Q \(give"),
        ({"a": ["N", 4]}, {"T": 3}, r"no dimension 'T' for --size \(it has N\)"),
        ({"a": ["N", "T"]}, {"T": 0}, r"the impossible size T=0"),
    ],
)
def test_sizes_that_are_missing_are_named(
    shapes: dict[str, list[int | str | None]], sizes: dict[str, int], words: str, tmp_path: Path
) -> None:
    """Dynamic dimensions where static ones are needed: the sentence has the option to give."""
    with pytest.raises(UnsupportedModel, match=words):
        taken(write(sums(shapes), tmp_path / "model.onnx"), sizes=sizes)


def test_states_are_pairs(tmp_path: Path) -> None:
    """A pair of equal type and shape is kept; what does not exist or does not fit is refused by name."""
    path = write(accumulator(), tmp_path / "model.onnx")
    assert taken(path, states={"h": "h_next"}).states == (StatePair("h", "h_next"),)
    with pytest.raises(
        UsageError, match=r"expected an output for the state h=nothing, found no nothing among y, h_next"
    ):
        taken(path, states={"h": "nothing"})
    model = accumulator()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 5  # h is broadcast, h_next is not
    with pytest.raises(UnsupportedModel, match=r"h_next to be what h takes, float \[1, 24\], found float \[5, 24\]"):
        taken(write(model, tmp_path / "other.onnx"), states={"h": "h_next"})


def test_small_external_tensors_come_along(tmp_path: Path) -> None:
    """A bundle refers to none of the user's files: what is too small for its weight file is read at once."""
    model = perceptron()
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    captured = taken(path)
    bias = captured.model.graph.initializers["up.bias"].const_value
    assert bias is not None
    assert not isinstance(bias, ir.ExternalTensor)
    assert bias.numpy().shape == (INNER,)
    assert captured.model.graph.inputs[0].shape == ir.Shape(["batch", WIDE])
