"""Cuts of small graphs: what crosses, what passes through, and that the chain computes what the whole did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from export.chain import Chain, Link
from export.cut import Segment, crossing, cut
from export.fold import freeze
from export.gradient.backward import LossSpec, build_backward
from export.legal import MOST_CROSSING, legal_cuts, uncuttable
from export.slots import insert_slots
from export.sources.captured import Captured
from export.write import write_graphs
from tests.export.graphs import WIDTH, Builder, feeds, residual_mlp
from tests.export.runtime import copy_of


def positions_after(model: ir.Model, *names: str) -> list[int]:
    """The position behind the node that makes each value."""
    made = {value.name: index for index, node in enumerate(model.graph) for value in node.outputs}
    return [made[name] + 1 for name in names]


def chain_of(segments: list[Segment], folder: Path) -> Chain:
    """Segments written to files, with backward graphs where they are wanted."""
    links = []
    for segment in segments:
        models = {f"{segment.name}.forward": segment.model}
        if segment.wanted:
            loss = LossSpec() if segment is segments[-1] else None
            models[f"{segment.name}.backward"] = build_backward(segment.model, wanted=segment.wanted, loss=loss)
        write_graphs(models, folder, f"{segment.name}.weights.bin")
        paths = [folder / f"{name}.onnx" for name in models]
        links.append(Link(segment.name, paths[0], paths[1] if len(paths) > 1 else None))
    return Chain(links)


CUTS = {
    "one segment": (),
    "between blocks": ("layer.0.out", "layer.1.out"),
    "inside a block, where three tensors cross": ("layer.1.with_slot",),
    "everywhere": ("shift", "layer.0.base", "layer.0.out", "layer.1.tanh", "layer.2.sum"),
}


@pytest.mark.parametrize("case", CUTS)
def test_a_chain_computes_what_the_whole_computes(case: str, tmp_path: Path) -> None:
    """Features, logits, loss and every gradient are those of the model in one piece."""
    model, values = residual_mlp(), feeds()
    segments = cut(model, positions_after(model, *CUTS[case]))
    whole = chain_of(cut(model, []), tmp_path)
    (tmp_path / "chain").mkdir()
    chain = chain_of(segments, tmp_path / "chain")
    expected, got = whole.backward(whole.forward(values)), chain.backward(chain.forward(values))
    checked = ["features", "logits", "loss", *(f"grad.slot.layer.{i}.{f}" for i in range(3) for f in "AB")]
    for name in checked:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_boundaries_are_named_typed_and_come_from_the_segment_before() -> None:
    """What leaves one segment enters the next under the same names, with shapes; the rest are model inputs."""
    model = residual_mlp()
    segments = cut(model, positions_after(model, "layer.0.out", "layer.1.out"))
    assert [s.entering for s in segments] == [(), ("cut0.0", "cut0.1"), ("cut1.0", "cut1.1")]
    assert [s.leaving for s in segments] == [("cut0.0", "cut0.1"), ("cut1.0", "cut1.1"), ("features", "logits")]
    for segment in segments:
        graph = segment.model.graph
        assert all(value.shape is not None and value.dtype is not None for value in (*graph.inputs, *graph.outputs))
    middle = [value.name for value in segments[1].model.graph.inputs]
    assert middle == ["cut0.0", "cut0.1", "slot.layer.1.A", "slot.layer.1.B", "slot.layer.1.scale"]


def test_what_is_not_changed_by_an_adapter_has_no_gradient() -> None:
    """The shift crosses every cut as a float, but no adapter is above it: only h is differentiable."""
    model = residual_mlp()
    segments = cut(model, positions_after(model, "layer.0.out", "layer.1.out"))
    assert [len(s.differentiable) for s in segments] == [0, 1, 1]
    assert segments[1].wanted == ("slot.layer.1.A", "slot.layer.1.B", *segments[1].differentiable)


def test_segments_before_the_first_slot_are_not_differentiated() -> None:
    """Without a slot only the head is wanted, and the next segment wants no gradient of its boundary."""
    model = residual_mlp(slots=False)
    found = [s.wanted for s in cut(model, positions_after(model, "layer.0.out"))]
    assert found == [(), ("head.weight", "head.bias")]


def test_the_model_is_left_as_it_is() -> None:
    """Cutting clones: the model keeps its nodes, names and outputs."""
    model = residual_mlp()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    cut(model, positions_after(model, "layer.1.out"))
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_weights_and_what_is_made_of_them_are_free() -> None:
    """A transposed weight does not cross: the segment that needs it makes it again."""
    b = Builder(1)
    x = b.input("x", [4, WIDTH])
    turned = b.op("Transpose", b.weight("w", 5, WIDTH), shape=[WIDTH, 5], name="turned", perm=[1, 0])
    h = b.op("Tanh", x, shape=[4, WIDTH], name="h")
    y = b.op("MatMul", h, turned, shape=[4, 5], name="y")
    model = b.model(y=y)
    assert [[v.name for v in values] for values in crossing(model.graph, [2])] == [["h"]]
    assert legal_cuts(model.graph) == [2]
    second = cut(model, [2])[1].model.graph
    assert [node.op_type for node in second] == ["Transpose", "MatMul"]


def test_no_cut_between_the_outputs() -> None:
    """Features and logits come from one segment."""
    model = residual_mlp()
    last = max(legal_cuts(model.graph))
    assert last <= positions_after(model, "features")[0] - 1


def test_no_cut_where_many_tensors_cross() -> None:
    """Twenty parallel tensors are one thing; a cut is legal before and after them."""
    b = Builder(2)
    h = b.op("Neg", b.input("x", [4, WIDTH]), shape=[4, WIDTH], name="h")
    branches = [b.op("Exp", h, shape=[4, WIDTH], name=f"branch.{i}") for i in range(20)]
    total = b.op("Sum", *branches, shape=[4, WIDTH], name="total")
    model = b.model(y=b.op("Tanh", total, shape=[4, WIDTH], name="y"))
    counts = {len(values) for values in crossing(model.graph, legal_cuts(model.graph))}
    assert max(counts) == MOST_CROSSING
    assert positions_after(model, "branch.19")[0] not in legal_cuts(model.graph)
    assert positions_after(model, "total")[0] in legal_cuts(model.graph)


def test_a_net_inside_if_is_named() -> None:
    """There is no cut inside a control-flow node, and the reason can be said."""
    b = Builder(3)
    x, flag = b.input("x", [4, WIDTH]), ir.val("flag", ir.DataType.BOOL, [])
    b.graph.inputs.append(flag)
    bodies = []
    for op_type in ("Tanh", "Neg"):
        made = ir.val(f"{op_type}.y", ir.DataType.FLOAT, [4, WIDTH])
        bodies.append(ir.Graph([], [made], nodes=[ir.node(op_type, [x], outputs=[made])], name=op_type))
    y = b.op("If", flag, shape=[4, WIDTH], name="y", then_branch=bodies[0], else_branch=bodies[1])
    model = b.model(y=y)
    assert legal_cuts(model.graph) == []
    assert uncuttable(model.graph) == "it has If '/y/If', which cannot be cut inside"
    assert uncuttable(residual_mlp().graph) == ""


def test_a_slot_is_not_cut(captured_bert: Captured) -> None:
    """No cut leaves a segment with some inputs of a slot and not the others; between slots there are cuts."""
    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, "all-linear")
    model = freeze(captured.model, 2, 6)
    positions = legal_cuts(model.graph)
    assert len(positions) > len(sites)
    for position in positions:
        for segment in cut(model, [position]):
            taken = {value.name for value in segment.model.graph.inputs}
            assert all(len(taken & {site.a, site.b, site.scale}) in (0, 3) for site in sites)
