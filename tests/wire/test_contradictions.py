"""What a manifest says of slots must hold together before a graph is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from console.errors import BadData
from tests.wire.samples import manifest
from wire.manifest import Bucket, Generate, Graph, Loss, Manifest, Scales, Slot, Tensor, parse_manifest, to_bytes

FILES = dict.fromkeys(("segment0.forward.onnx", "segment0.weights.bin", "golden.safetensors"), b"x")
BIAS = Slot("layer.query", "layer.query", "bias", 4, 4, "segment0", "", "", "", bias="slot.bias")


def whole() -> Manifest:
    """A manifest with a slot of each kind and a graph without slots."""
    m = manifest(FILES)
    forward = m.segments[0].graphs[0]
    adapted = replace(forward, inputs=(*forward.inputs, Tensor("slot.bias", "float32", (4,))))
    serve = replace(forward, kind="serve", inputs=forward.inputs[:1])
    return with_graphs(replace(m, slots=(*m.slots, BIAS)), adapted, serve)


def with_graphs(m: Manifest, *graphs: Graph) -> Manifest:
    """The manifest with other graphs in its segment."""
    return replace(m, segments=(replace(m.segments[0], graphs=graphs),))


def without(m: Manifest, name: str) -> Manifest:
    """The manifest with a forward graph that does not take an input."""
    forward, serve = m.segments[0].graphs
    return with_graphs(m, replace(forward, inputs=tuple(t for t in forward.inputs if t.name != name)), serve)


def test_slots_that_the_graphs_have_are_believed() -> None:
    """A slot of each kind beside one module, and a graph without them, is a manifest."""
    assert parse_manifest(to_bytes(whole())) == whole()


@pytest.mark.parametrize("name", ["slot.A", "slot.B", "slot.scale", "slot.bias"])
def test_every_input_of_a_slot_is_one_of_its_graph(name: str) -> None:
    """An adapter is not fed to a name that no graph has."""
    with pytest.raises(BadData, match=rf"segment0.forward does not take '{name}' of slot layer.query"):
        parse_manifest(to_bytes(without(whole(), name)))


@pytest.mark.parametrize(
    ("at", "changes", "words"),
    [
        (0, {"features_in": 5}, r"takes 'slot.A' as \[4, 'r'\], where slot layer.query has \[5, 'rank'\]"),
        (0, {"features_out": 5}, r"takes 'slot.B' as \['r', 4\], where slot layer.query has \['rank', 5\]"),
        (1, {"features_out": 3}, r"takes 'slot.bias' as \[4\], where slot layer.query has \[3\]"),
        (0, {"window": (2, 3)}, r"has 4 features in, but a window of \[2, 3\]"),
        (0, {"segment": "segment7"}, "is in unknown segment 'segment7'"),
        (0, {"name": "other"}, "segment0 does not name its slot other"),
        (
            1,
            {"kind": "lora", "a": "slot.A", "b": "slot.B", "scale": "slot.scale"},
            "lora slot layer.query is listed twice",
        ),
    ],
)
def test_a_slot_agrees_with_its_graph(at: int, changes: dict[str, Any], words: str) -> None:
    """Sizes, window, segment and name of a slot are those of the graph that has it."""
    m = whole()
    slots = tuple(replace(slot, **changes) if i == at else slot for i, slot in enumerate(m.slots))
    with pytest.raises(BadData, match=words):
        parse_manifest(to_bytes(replace(m, slots=slots)))


def test_a_graph_without_slots_has_none_and_stands_beside_one_with() -> None:
    """What is served while no adapter is deployed takes no adapter, and there is a graph for when one is."""
    m = whole()
    forward, serve = m.segments[0].graphs
    with pytest.raises(BadData, match=r"segment0.serve takes 'slot.A' of a slot"):
        parse_manifest(to_bytes(with_graphs(m, forward, replace(serve, inputs=forward.inputs))))
    with pytest.raises(BadData, match="a serve graph for bucket 'b2', but no forward graph"):
        parse_manifest(to_bytes(with_graphs(m, serve)))


def scaled(*scales: Scales, axes: int = 2) -> Manifest:
    """The manifest with a graph that takes factors of one weight's scales."""
    m = whole()
    forward = m.segments[0].graphs[0]
    factor = Tensor("scales.w", "float32", ("f_4", "f_2")[:axes])
    graph = replace(forward, kind="scales", inputs=(*forward.inputs, factor))
    return replace(with_graphs(m, *m.segments[0].graphs, graph), scales=scales)


SCALES = Scales("scales.w", "w", "int4", "segment0", (4, 2), "a" * 64)


def test_scales_that_a_graph_takes_are_believed() -> None:
    """A record with the axes of the graph's input is a manifest."""
    assert parse_manifest(to_bytes(scaled(SCALES))).scales == (SCALES,)


@pytest.mark.parametrize(
    ("m", "words"),
    [
        (scaled(SCALES, axes=1), "segment0.scales does not take 'scales.w' with 2 axes"),
        (scaled(replace(SCALES, input="scales.v")), "segment0.scales does not take 'scales.v'"),
        (scaled(SCALES, SCALES), "segment0 has the scales 'scales.w' twice"),
        (scaled(replace(SCALES, segment="segment7")), "the scales of w have no graph in segment 'segment7'"),
        (replace(whole(), scales=(SCALES,)), "the scales of w have no graph in segment 'segment0'"),
        (scaled(replace(SCALES, shape=())), "the scales of w have no shape"),
    ],
)
def test_scales_that_no_graph_takes_are_refused(m: Manifest, words: str) -> None:
    """Every record of scales is an input of its segment's graph, once."""
    with pytest.raises(BadData, match=words):
        parse_manifest(to_bytes(m))


def test_every_bucket_has_its_graphs_once() -> None:
    """A bucket without a graph, with one twice, or with backward graphs in some segments only is refused by name."""
    m = whole()
    forward, _ = m.segments[0].graphs
    more = replace(m, buckets=(*m.buckets, Bucket("b1", 1)))
    with pytest.raises(BadData, match="segment0 has no forward graph for bucket 'b1'"):
        parse_manifest(to_bytes(more))
    with pytest.raises(BadData, match="bucket 'b2' is listed twice"):
        parse_manifest(to_bytes(replace(m, buckets=m.buckets * 2)))
    with pytest.raises(BadData, match="segment0 has two forward graphs for bucket 'b2'"):
        parse_manifest(to_bytes(with_graphs(m, forward, forward)))
    both = [replace(forward, kind=kind, bucket=b) for b in ("b2", "b1") for kind in ("forward", "backward")]
    named = replace(m.segments[0], name="segment1", slots=(), graphs=tuple(both))
    first = replace(m.segments[0], graphs=tuple(both[:3]))
    parse_manifest(to_bytes(replace(more, segments=(replace(first, graphs=tuple(both)), named))))
    with pytest.raises(BadData, match="segment0 has no backward graph for bucket 'b1', but for another one"):
        parse_manifest(to_bytes(replace(more, segments=(first, named))))


def next_token() -> Manifest:
    """A decoder that learns: two rows of five tokens, and a label for each."""
    m = manifest({**FILES, "segment0.backward.onnx": b"x"})
    forward = m.segments[0].graphs[0]
    per_token = (Tensor("labels", "int64", (10,)), Tensor("weights", "float32", (10,)))
    backward = replace(
        forward, kind="backward", file="segment0.backward.onnx", inputs=(*forward.inputs, *per_token), outputs=()
    )
    return replace(
        with_graphs(m, forward, backward),
        head=None,
        labels=(),
        buckets=(Bucket("b2", 2, 5),),
        generate=Generate("prefix", "x", "logits", 5),
        loss=Loss("next-token", "logits"),
    )


def test_a_decoder_that_learns_has_a_label_per_token() -> None:
    """A loss of the next token stands beside graphs that take a label and a weight for every token of the bucket."""
    m = next_token()
    assert parse_manifest(to_bytes(m)) == m
    forward, backward = m.segments[0].graphs
    short = replace(backward, inputs=(*forward.inputs, Tensor("labels", "int64", (2,))))
    with pytest.raises(
        BadData, match=r"takes 'labels' as \[2\], where the tokens are \[10\]; .* takes 'weights' as \[\]"
    ):
        parse_manifest(to_bytes(with_graphs(m, forward, short)))
    with pytest.raises(BadData, match="segment0.forward does not give 'logits', which the loss judges"):
        parse_manifest(to_bytes(with_graphs(m, replace(forward, outputs=()), backward)))


def test_a_loss_of_the_next_token_has_no_classes_and_reads_whole_texts() -> None:
    """Beside a head or labels it is a contradiction, and so it is without a way to feed whole texts."""
    m = next_token()
    with pytest.raises(BadData, match="the loss is 'next-token', but there is a head or labels"):
        parse_manifest(to_bytes(replace(m, labels=("a",))))
    for generate in (None, Generate("cached", "x", "logits", 5), Generate("prefix", "x", "other", 5)):
        with pytest.raises(BadData, match="the loss judges 'logits', but 'generate' does not make it of whole texts"):
            parse_manifest(to_bytes(replace(m, generate=generate)))
