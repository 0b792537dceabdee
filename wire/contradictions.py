"""What a manifest says that cannot be true: names that point nowhere, and slots that no graph has."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from wire.borders import border_problems
from wire.tables import table_problems

if TYPE_CHECKING:  # the manifest's reader asks this module
    from wire.manifest import Graph, Manifest, Segment, Slot


def contradictions(m: Manifest) -> list[str]:
    """Everything in a manifest that contradicts something else in it, in words."""
    return (
        _names(m)
        + _buckets(m)
        + _slots(m)
        + _states(m)
        + _scales(m)
        + _loss(m)
        + _ranks(m)
        + border_problems(m)
        + table_problems(m)
        + [p for s in m.segments for p in _serving(m, s)]
    )


def _names(m: Manifest) -> list[str]:
    files, buckets = {f.path for f in m.files}, {b.name for b in m.buckets}
    segments, slots = {s.name for s in m.segments}, {s.name for s in m.slots}
    used = [(g.file, f"{s.name}.{g.kind}") for s in m.segments for g in s.graphs]
    used += [(w, f"{s.name}.weights") for s in m.segments for w in s.weights]
    used += [(f, "preprocess") for f in m.preprocess.files] + [(m.golden.file, "golden")]
    if m.from_features is not None:
        used.append((m.from_features.file, "from_features"))
    problems = [f"{where} names file {name!r}, which is not listed" for name, where in used if name not in files]
    problems += [
        f"{s.name} has a graph for unknown bucket {g.bucket!r}"
        for s in m.segments
        for g in s.graphs
        if g.bucket not in buckets
    ]
    problems += [f"{s.name} names unknown slot {n!r}" for s in m.segments for n in s.slots if n not in slots]
    problems += [f"slot {s.name} is in unknown segment {s.segment!r}" for s in m.slots if s.segment not in segments]
    if len(files) != len(m.files):
        problems.append("a file is listed twice")
    if m.head is not None and m.head.segment not in segments:
        problems.append(f"the head is in unknown segment {m.head.segment!r}")
    return problems


def _ranks(m: Manifest) -> list[str]:
    """Ranks of slots that are not there, or that are none of this board."""
    known = {slot.name for slot in m.slots if slot.kind == "lora"}
    problems = [f"the plan has a rank for unknown slot {name!r}" for name in m.plan.ranks if name not in known]
    wrong = [(name, rank) for name, rank in m.plan.ranks.items() if not 1 <= rank <= m.plan.rank]
    problems += [f"the plan's rank of {name!r} is {rank}, expected 1 to {m.plan.rank}" for name, rank in wrong]
    return problems


def _buckets(m: Manifest) -> list[str]:
    """Buckets that are there twice, and graphs that a bucket has twice or lacks where other buckets or segments do not.

    A model that can only be trained has no forward graph in its last segment.
    """
    names = [bucket.name for bucket in m.buckets]
    problems = [f"bucket {name!r} is listed twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    have = {s.name: [(g.kind, g.bucket) for g in s.graphs] for s in m.segments}
    for name, graphs in have.items():
        twice = [pair for pair in dict.fromkeys(graphs) if graphs.count(pair) > 1]
        problems += [f"{name} has two {kind} graphs for bucket {bucket!r}" for kind, bucket in twice]
    last = m.segments[-1].name if m.segments else ""
    trained = [name for name in dict.fromkeys(names) if ("backward", name) in have.get(last, [])]
    for bucket in dict.fromkeys(names):
        for name, graphs in have.items():
            only_trained = name == last and bucket in trained
            if ("forward", bucket) not in graphs and not only_trained:
                problems.append(f"{name} has no forward graph for bucket {bucket!r}")
            learns = any(("backward", other) in graphs for other in trained)
            if bucket in trained and learns and ("backward", bucket) not in graphs:
                problems.append(f"{name} has no backward graph for bucket {bucket!r}, but for another one")
    return problems


def _slots(m: Manifest) -> list[str]:
    """Slots that are there twice, or that the forward graphs of their segment do not take."""
    keys = [(slot.kind, slot.name) for slot in m.slots]
    problems = [
        f"{kind} slot {name} is listed twice" for kind, name in dict.fromkeys(keys) if keys.count((kind, name)) > 1
    ]
    segments = {s.name: s for s in m.segments}
    for slot in m.slots:
        if slot.window and prod(slot.window) != slot.features_in:
            problems.append(f"slot {slot.name} has {slot.features_in} features in, but a window of {list(slot.window)}")
        if slot.segment not in segments:
            continue
        if slot.name not in segments[slot.segment].slots:
            problems.append(f"{slot.segment} does not name its slot {slot.name}")
        for graph in segments[slot.segment].graphs:
            if graph.kind in {"forward", "scales"}:
                problems += _untaken(slot, graph, f"{slot.segment}.{graph.kind}")
    return problems


def _states(m: Manifest) -> list[str]:
    """States that no graph takes and gives as they are listed; in a chain, one of both may be another board's."""
    alone = m.chain is None or len(m.chain.devices) < 2
    graphs = [(f"{s.name}.{g.kind}", g) for s in m.segments for g in s.graphs if g.kind != "backward"]
    problems = []
    for state in m.states:
        absent = []
        for name, done, sides in (
            (state.input, "takes", [(where, g.inputs) for where, g in graphs]),
            (state.output, "gives", [(where, g.outputs) for where, g in graphs]),
        ):
            found = [(where, t) for where, tensors in sides for t in tensors if t.name == name]
            if not found:
                absent.append(f"no graph {done} the state {name!r}")
            problems += [
                f"{where} {done} the state {name!r} as {t.dtype} {list(t.shape)}, where it is {state.dtype} "
                f"{list(state.shape)}"
                for where, t in found
                if (t.dtype, tuple(t.shape)) != (state.dtype, tuple(state.shape))
            ]
        problems += absent if alone or len(absent) > 1 else []
    return problems


def _scales(m: Manifest) -> list[str]:
    """Scales of unknown segments, or that the graphs of their segment do not take as they are listed."""
    keys = [(scales.segment, scales.input) for scales in m.scales]
    problems = [f"{where} has the scales {n!r} twice" for where, n in dict.fromkeys(keys) if keys.count((where, n)) > 1]
    segments = {s.name: s for s in m.segments}
    for one in m.scales:
        graphs = [g for g in segments[one.segment].graphs if g.kind == "scales"] if one.segment in segments else []
        if not graphs or not one.shape:
            what = "no shape" if graphs else f"no graph in segment {one.segment!r}"
            problems.append(f"the scales of {one.weight} have {what}")
        for graph in graphs:
            found = {t.name: len(t.shape) for t in graph.inputs if t.dtype == "float32"}.get(one.input)
            if found != len(one.shape):
                problems.append(f"{one.segment}.scales does not take {one.input!r} with {len(one.shape)} axes")
    return problems


def _loss(m: Manifest) -> list[str]:
    """A loss of the next token beside a head, without tokens, or that the graphs do not have in their shapes."""
    if m.loss is None:
        return []
    problems = []
    if m.head is not None or m.labels:
        problems.append(f"the loss is {m.loss.kind!r}, but there is a head or labels")
    if m.generate is None or m.generate.kind != "prefix" or m.generate.logits != m.loss.logits:
        problems.append(f"the loss judges {m.loss.logits!r}, but 'generate' does not make it of whole texts")
    sizes = {b.name: None if b.sequence is None else b.batch * b.sequence for b in m.buckets}
    front = m.split is not None and m.split.role == "front"  # what is judged is the tail's
    for graph in m.segments[-1].graphs if m.segments and not front else ():
        where = f"{m.segments[-1].name}.{graph.kind}"
        if graph.kind != "backward":
            if m.loss.logits not in {t.name for t in graph.outputs}:
                problems.append(f"{where} does not give {m.loss.logits!r}, which the loss judges")
            continue
        taken = {t.name: tuple(t.shape) for t in graph.inputs}
        problems += [
            f"{where} takes {name!r} as {list(taken.get(name, ()))}, where the tokens are [{sizes[graph.bucket]}]"
            for name in ("labels", "weights")
            if graph.bucket in sizes and taken.get(name) != (sizes[graph.bucket],)
        ]
    return problems


def _untaken(slot: Slot, graph: Graph, where: str) -> list[str]:
    taken = {tensor.name: tensor.shape for tensor in graph.inputs}
    problems = []
    for name, shape in _inputs(slot).items():
        found = taken.get(name)
        if found is None:
            problems.append(f"{where} does not take {name!r} of slot {slot.name}")
        elif len(found) != len(shape) or any(d is not None and d != f for d, f in zip(shape, found, strict=True)):
            wanted = [("rank" if d is None else d) for d in shape]
            problems.append(f"{where} takes {name!r} as {list(found)}, where slot {slot.name} has {wanted}")
    return problems


def _serving(m: Manifest, segment: Segment) -> list[str]:
    """Graphs without slots that take one, or that no forward graph stands beside."""
    forward = {g.bucket for g in segment.graphs if g.kind == "forward"}
    adapted = {name for slot in m.slots for name in _inputs(slot)}
    problems = []
    for graph in segment.graphs:
        if graph.kind != "serve":
            continue
        problems += [f"{segment.name}.serve takes {t.name!r} of a slot" for t in graph.inputs if t.name in adapted]
        if graph.bucket not in forward:
            problems.append(f"{segment.name} has a serve graph for bucket {graph.bucket!r}, but no forward graph")
    return problems


def _inputs(slot: Slot) -> dict[str, tuple[int | None, ...]]:
    """The graph inputs of a slot and their shapes; None stands for the rank."""
    if slot.kind == "bias":
        return {slot.bias: (slot.features_out,)}
    return {slot.a: (slot.features_in, None), slot.b: (None, slot.features_out), slot.scale: ()}
