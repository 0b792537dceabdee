"""A graph as blocks: which nodes belong together, what is drawn as one, and what skips blocks."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx_ir as ir
import pytest

from console.errors import BadData
from export.report.blocks import ENTRY, Block, Blocks, blocks_of, read_blocks
from export.report.modules import module_of
from tests.export.graphs import Builder, residual_mlp

NONE: frozenset[str] = frozenset()


def chain(*names: str, skip: tuple[str, str] | None = None) -> ir.Model:
    """x through one Relu per name; `skip` adds what the first of two named nodes made to what the second made."""
    b = Builder(0)
    value = x = b.input("x", [4])
    made = {"x": x}
    for number, name in enumerate(names):
        value = b.op("Relu", value, shape=[4], name=f"v{number}")
        producer = value.producer()
        assert producer is not None
        producer.name = name
        if skip is not None and name == skip[1]:
            value = b.op("Add", value, made[skip[0]], shape=[4], name=f"sum{number}")
            producer = value.producer()
            assert producer is not None
            producer.name = f"{name.rpartition('/')[0]}/Add"
        made[name] = value
    return b.model(y=value)


def labels(found: Blocks) -> list[tuple[str, str, int, int]]:
    """First and last module, how many alike, how many nodes."""
    return [(block.first, block.last, block.alike, block.nodes) for block in found.blocks]


def named(*modules: str, each: int = 4) -> list[str]:
    """Node names as exporters give them, several per module."""
    return [f"/{module}/part/op{i}" for module in modules for i in range(each)]


def test_runs_of_a_module_are_a_block_and_alike_neighbours_one() -> None:
    """From three alike blocks on they are one; two stay two, and so do blocks that differ in more than their number."""
    model = chain(*named("stem", "layer.0", "layer.1", "layer.2", "neck", "tail.0", "tail.1"))
    assert labels(blocks_of(model.graph, NONE)) == [
        ("stem", "stem", 1, 4),
        ("layer.0", "layer.2", 3, 12),
        ("neck", "neck", 1, 4),
        ("tail.0", "tail.0", 1, 4),
        ("tail.1", "tail.1", 1, 4),
    ]
    odd = chain(*named("layer.0", "layer.1"), *named("layer.2", each=5), *named("layer.3"))
    assert [alike for _, _, alike, _ in labels(blocks_of(odd.graph, NONE))] == [1, 1, 1, 1]


def test_a_short_run_without_weights_belongs_to_its_neighbour() -> None:
    """One node of another module between two halves of a block does not tear it apart."""
    model = chain(*named("stem"), "/mask/op", *named("stem", "layer.0"))
    assert labels(blocks_of(model.graph, NONE)) == [("stem", "stem", 1, 9), ("layer.0", "layer.0", 1, 4)]


def test_modules_below_one_root_are_told_apart() -> None:
    """Where one module holds numbered ones, those beside them are named with their own part of the path."""
    modules = ["model.embed", "model.layer.0", "model.layer.1", "model.norm", "head"]
    assert [block.first for block in blocks_of(chain(*named(*modules)).graph, NONE).blocks] == modules


def test_few_blocks_are_looked_into() -> None:
    """Where the first number divides too coarsely, the second one does."""
    modules = [f"stages.{s}.{kind}.{i}" for s in range(2) for kind, i in (("a", 0), ("b", 0), ("a", 1), ("b", 1))]
    found = blocks_of(chain(*named(*modules)).graph, NONE)
    assert [block.first for block in found.blocks] == modules


def test_what_tells_the_module_of_a_node() -> None:
    """Scopes come before node names, and these before names of weights; without any there is no module."""
    b = Builder(0)
    value = b.op("MatMul", b.input("x", [2, 2]), b.weight("deep.layer.3.weight", 2, 2), shape=[2, 2], name="y")
    node = value.producer()
    assert node is not None
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'blocks.0', 'blocks.0.fc', 'linear']"
    node.name = "/encoder/layer.1/MatMul"
    assert module_of(node) == "blocks.0.fc"
    del node.metadata_props["pkg.torch.onnx.name_scopes"]
    assert module_of(node) == "encoder.layer.1"
    node.name, value.name = "node_linear_1", "/decoder/layer.2/MatMul_output_0"
    assert module_of(node) == "decoder.layer.2"
    value.name = "y"
    assert module_of(node) == "deep.layer.3"
    node.inputs[1].name = "/decoder/layer.2/Constant_output_0"  # type: ignore[union-attr]  # it was given above
    assert module_of(node) == ""
    assert module_of(ir.node("Relu", [value], name="r")) == ""


def test_a_graph_without_names_is_divided_by_position() -> None:
    """Every node is in one block, and there are few blocks."""
    found = blocks_of(chain(*(f"n{i}" for i in range(200))).graph, NONE)
    assert labels(found)[0] == ("nodes 0 to 14", "nodes 0 to 14", 1, 15)
    assert sum(block.nodes for block in found.blocks) == 200
    assert len(found.blocks) == 14


def test_a_skip_connection_is_drawn_from_its_maker_to_its_reader() -> None:
    """What is read further on than in the next block is told, once per maker; residuals inside a block are not."""
    names = named("down.0", "middle", "up.0", "last")
    found = blocks_of(chain(*names, skip=("/down.0/part/op3", "/up.0/part/op1")).graph, NONE)
    assert [(skip.source, skip.targets, skip.names) for skip in found.skips] == [(0, (2,), ("v3",))]
    inside = blocks_of(chain(*names, skip=("/up.0/part/op0", "/up.0/part/op2")).graph, NONE)
    assert inside.skips == ()


@pytest.mark.parametrize(("blocks", "slots"), list(itertools.product((1, 2, 3, 5), (True, False))))
def test_nothing_is_lost(blocks: int, slots: bool) -> None:
    """Nodes, weight bytes and slots of all blocks are those of the graph; skips are those of its nodes."""
    graph = residual_mlp(blocks, slots=slots).graph
    marks = frozenset(v.name or "" for v in graph.inputs if (v.name or "").endswith(".A"))
    found = blocks_of(graph, marks)
    assert sum(block.nodes for block in found.blocks) == len(graph)
    weights = [v for v in graph.initializers.values() if not v.is_graph_input()]
    assert sum(block.weight_bytes for block in found.blocks) == sum(
        v.const_value.nbytes for v in weights if v.const_value
    )
    assert sum(block.slots for block in found.blocks) == len(marks)
    assert {(s.source, t) for s in found.skips for t in s.targets} == _skips(graph, found.blocks)


def _skips(graph: ir.Graph, blocks: tuple[Block, ...]) -> set[tuple[int, int]]:
    """Pairs of blocks that are connected but no neighbours, from the counts of nodes alone."""
    of = [number for number, block in enumerate(blocks) for _ in range(block.nodes)]
    place = {node: of[i] for i, node in enumerate(graph)}
    pairs = set()
    for node in graph:
        for value in node.inputs:
            if value is None or value.is_initializer():
                continue
            maker = value.producer()
            pairs.add((ENTRY if maker is None else place[maker], place[node]))
    for value in graph.outputs:
        maker = value.producer()
        assert maker is not None
        pairs.add((place[maker], len(blocks)))
    return {(a, b) for a, b in pairs if b > a + 1}


@pytest.mark.parametrize("data", [b"", b"\x08\x0a", b"\xff" * 40, b"not one at all"])
def test_what_is_no_graph_is_refused(data: bytes, tmp_path: Path) -> None:
    """Bytes that are no ONNX model end in a sentence with the file's name."""
    path = tmp_path / "segment0.forward.onnx"
    path.write_bytes(data)
    with pytest.raises(BadData, match=r"expected an ONNX graph in .*segment0\.forward\.onnx"):
        read_blocks(path, [])
