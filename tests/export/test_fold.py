from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel
from export.fold import freeze
from export.head import append_head
from export.slots import insert_slots
from export.sources.captured import Captured
from tests.export.oracle import Oracle
from tests.export.runtime import Array, copy_of, features_of, hidden_of, inline, pictures, run, text, worst

TOLERANCE = 1e-5


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (2, 7), (5, 48)])
def test_a_frozen_graph_is_the_raw_one(which: str, batch: int, sequence: int, request: pytest.FixtureRequest) -> None:
    """Hidden states equal the untouched export's at every size, without and with onnxruntime's optimizer."""
    captured: Captured = request.getfixturevalue(which)
    feeds = pictures(batch) if captured.modality == "image" else text(batch, sequence)
    wanted = run(captured.original, feeds)[hidden_of(captured)]
    frozen = freeze(captured.model, batch, sequence)
    for level in ("disable", "all"):
        assert worst(run(frozen, feeds, level)[hidden_of(captured)], wanted) <= TOLERANCE


def test_the_real_encoder_is_frozen_right(captured_minilm: Captured) -> None:
    """all-MiniLM-L6-v2 with slots and head: 8 x 64 tokens, hidden states through features, no slot fed."""
    captured = copy_of(captured_minilm)
    insert_slots(captured.model, "auto")
    append_head(captured.model, features_of(captured), classes=4)
    frozen = freeze(captured.model, 8, 64)
    feeds = text(8, 64, vocabulary=30522)
    hidden = run(captured.original, feeds)[hidden_of(captured)]
    mask = feeds["attention_mask"][..., None]
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    wanted = pooled / np.linalg.norm(pooled, axis=1, keepdims=True) * np.sqrt(384)
    assert worst(run(frozen, feeds)["features"], wanted) <= TOLERANCE
    assert len(list(frozen.graph)) < 260


def test_numpy_agrees(captured_bert: Captured) -> None:
    """The frozen graph in numpy, operator by operator, gives what onnxruntime gives."""
    frozen = freeze(captured_bert.model, 2, 7)
    feeds = text(2, 7)
    wanted = run(frozen, feeds)["last_hidden_state"]
    assert worst(Oracle(inline(frozen))(feeds)["last_hidden_state"], wanted) <= TOLERANCE


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
def test_every_size_is_known_but_ranks(which: str, request: pytest.FixtureRequest) -> None:
    """Opset 21, IR version 10, a valid file; no shape arithmetic; symbols only where a slot's rank is."""
    captured = copy_of(request.getfixturevalue(which))
    sites = insert_slots(captured.model, "auto")
    append_head(captured.model, features_of(captured), classes=3)
    frozen = freeze(captured.model, 2, 7)
    assert (frozen.opset_imports[""], frozen.ir_version) == (21, 10)
    onnx.checker.check_model(ir.to_proto(inline(frozen)))
    assert not {"Shape", "ConstantOfShape", "Constant", "Erf", "Identity"} & {node.op_type for node in frozen.graph}
    values = [value for node in frozen.graph for value in node.outputs if value.name]
    assert all(value.dtype is not None and value.shape is not None for value in values)
    symbols = {str(d) for value in values for d in value.shape or [] if not isinstance(d, int)}
    assert symbols == {f"r_{number}" for number in range(len(sites))}


def test_the_captured_graph_is_left_as_it_is(captured_bert: Captured) -> None:
    """Freezing returns a new graph: the old one keeps its symbols, opset and nodes, and can be frozen again."""
    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, "auto")
    before = len(list(captured.model.graph))
    first, second = freeze(captured.model, 2, 7), freeze(captured.model, 4, 16)
    assert len(list(captured.model.graph)) == before
    assert captured.model.opset_imports[""] == 18
    assert sites[0].scale in captured.model.graph.initializers
    for name in captured.modules:
        # one weight, one tensor, whatever the bucket
        assert first.graph.initializers[name].const_value is second.graph.initializers[name].const_value


def test_no_name_of_a_weight_input_or_output_changes(captured_bert: Captured) -> None:
    """What a manifest records is called the same before and after."""
    captured = copy_of(captured_bert)
    insert_slots(captured.model, "all-linear")
    frozen = freeze(captured.model, 2, 7)
    for side in ("inputs", "outputs"):
        names = [[v.name for v in getattr(model.graph, side)] for model in (captured.model, frozen)]
        assert names[0] == names[1]
    assert set(captured.modules) <= set(frozen.graph.initializers)


def made(nodes: list[ir.Node], inputs: list[ir.Value], output: ir.Value, **constants: Array) -> ir.Model:
    """A small graph; constants are found by name among the nodes' inputs."""
    named = {v.name: v for node in nodes for v in node.inputs if v is not None}
    for name, content in constants.items():
        named[name].const_value = ir.tensor(content, name=name)
    initializers = [named[name] for name in constants]
    graph = ir.Graph(inputs, [output], nodes=nodes, initializers=initializers, opset_imports={"": 18}, name="made")
    return ir.Model(graph, ir_version=8)


def test_an_epsilon_is_not_zero() -> None:
    """x / sqrt(x x + 1e-12) keeps its epsilon: rewriting x + 0 within a tolerance would make 0 / 0 of it."""
    x, eps = ir.val("x", ir.DataType.FLOAT, [3]), ir.val("eps")
    square = ir.node("Mul", [x, x])
    total = ir.node("Add", [square.outputs[0], eps])
    root = ir.node("Sqrt", [total.outputs[0]])
    ratio = ir.node("Div", [x, root.outputs[0]], outputs=[ir.val("y", ir.DataType.FLOAT, [3])])
    model = made([square, total, root, ratio], [x], ratio.outputs[0], eps=np.array(1e-12, np.float32))
    given = np.array([0.0, 1e-6, 1.0], np.float32)
    wanted = given / np.sqrt(given.astype(np.float64) ** 2 + 1e-12)
    found = run(freeze(model, 3, None), {"x": given})["y"]
    assert np.allclose(found, wanted, rtol=1e-6, atol=0)


def test_a_size_that_depends_on_the_data_is_refused() -> None:
    """Compress has as many rows as the data says: its output is named, and no file would be written."""
    x, flags = ir.val("x", ir.DataType.FLOAT, ["batch", 4]), ir.val("flags", ir.DataType.BOOL, ["batch"])
    kept = ir.node("Compress", [x, flags], {"axis": 0}, outputs=[ir.val("kept")])
    doubled = ir.node("Add", [kept.outputs[0]] * 2, outputs=[ir.val("y", ir.DataType.FLOAT, ["some", 4])])
    model = made([kept, doubled], [x, flags], doubled.outputs[0])
    with pytest.raises(UnsupportedModel, match=r"found sizes that depend on the data: kept .*; export a model without"):
        freeze(model, 3, None)


def test_text_needs_a_length(captured_bert: Captured) -> None:
    """Without a sequence length a text encoder cannot be frozen, and says which input needs it."""
    with pytest.raises(UnsupportedModel, match="expected a sequence length for the text input input_ids"):
        freeze(captured_bert.model, 2, None)


def test_a_sequence_beyond_the_positions_is_refused(captured_bert: Captured, capfd: pytest.CaptureFixture[str]) -> None:
    """49 tokens for 48 positions do not fit together: one sentence, and no log lines of the shape inference."""
    with pytest.raises(UnsupportedModel, match="expected sizes that fit together at batch 2 and sequence 49"):
        freeze(captured_bert.model, 2, 49)
    assert capfd.readouterr() == ("", "")


def test_operators_whose_meaning_changed_are_rewritten() -> None:
    """GridSample calls its mode linear instead of bilinear from opset 20 on: the frozen graph still samples so."""
    x, grid = ir.val("x", ir.DataType.FLOAT, [1, 1, 3, 3]), ir.val("grid", ir.DataType.FLOAT, [1, 2, 2, 2])
    node = ir.node(
        "GridSample", [x, grid], {"mode": "bilinear"}, outputs=[ir.val("y", ir.DataType.FLOAT, [1, 1, 2, 2])]
    )
    model = made([node], [x, grid], node.outputs[0])
    drawn = np.random.default_rng(2)
    feeds = {"x": drawn.standard_normal((1, 1, 3, 3)), "grid": drawn.uniform(-1, 1, (1, 2, 2, 2))}
    floats = {name: a.astype(np.float32) for name, a in feeds.items()}
    assert worst(run(freeze(model, 1, None), floats)["y"], run(model, floats)["y"]) <= TOLERANCE


def test_what_a_loop_carries_keeps_its_shape() -> None:
    """The value that a Loop hands from turn to turn has the shape that its body says, and what follows has one too."""
    x, four, go = ir.val("x", ir.DataType.FLOAT, ["batch", 3]), ir.val("four"), ir.val("go")
    count, again, carried = (
        ir.val(name, dtype, shape)
        for name, dtype, shape in (
            ("count", ir.DataType.INT64, []),
            ("again", ir.DataType.BOOL, []),
            ("carried", ir.DataType.FLOAT, [2, 3]),
        )
    )
    same = ir.node("Identity", [again], outputs=[ir.val("same", ir.DataType.BOOL, [])])
    half = ir.node("Tanh", [carried], outputs=[ir.val("half", ir.DataType.FLOAT, [2, 3])])
    body = ir.Graph([count, again, carried], [same.outputs[0], half.outputs[0]], nodes=[same, half], name="body")
    loop = ir.node("Loop", [four, go, x], {"body": body}, outputs=[ir.val("looped")])
    last = ir.node("Neg", [loop.outputs[0]], outputs=[ir.val("y", ir.DataType.FLOAT, ["batch", 3])])
    model = made([loop, last], [x], last.outputs[0], four=np.array(4), go=np.array([True])[0])
    given = np.random.default_rng(4).standard_normal((2, 3)).astype(np.float32)
    wanted = given
    for _ in range(4):
        wanted = np.tanh(wanted)
    frozen = freeze(model, 2)
    assert list(frozen.graph.outputs[0].shape or ()) == [2, 3]
    assert worst(run(frozen, {"x": given})["y"], -wanted) <= 1e-6


@pytest.mark.parametrize("maker", ["Range", "ConstantOfShape", "input"])
def test_long_lists_of_integers_are_not_kept(maker: str) -> None:
    """Inference would keep 2^40 entries as if each were a size: the shape is known, and nothing is counted out."""

    def held(name: str, array: object) -> ir.Value:
        value = ir.val(name, const_value=ir.tensor(np.array(array, np.int64), name=name))
        weights.append(value)
        return value

    weights: list[ir.Value] = []
    given = ir.val("n", ir.DataType.INT64, [1 << 40] if maker == "input" else [1])
    made = {
        "input": lambda: ir.node("Identity", [given]),
        "Range": lambda: ir.node("Range", [held("first", 0), held("last", 1 << 40), held("step", 1)]),
        "ConstantOfShape": lambda: ir.node("ConstantOfShape", [held("size", [1 << 40])], {"value": ir.tensor([7])}),
    }[maker]()
    doubled = ir.node("Mul", [made.outputs[0], made.outputs[0]])
    turned = ir.node("Cast", [doubled.outputs[0]], {"to": 1}, outputs=[ir.val("y")])
    nodes, opsets = [made, doubled, turned], {"": 18}
    graph = ir.Graph([given], turned.outputs, nodes=nodes, initializers=weights, opset_imports=opsets, name="g")
    frozen = freeze(ir.Model(graph, ir_version=8), 1)
    assert list(frozen.graph.outputs[0].shape or ()) == [1 << 40]
