"""What a manifest says of a model that is split: fronts on boards, a tail elsewhere (docs/split.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wire.record import NAME, at_least, matching

if TYPE_CHECKING:  # the manifest's reader asks this module
    from wire.manifest import Manifest, Segment


@dataclass(frozen=True)
class Border:
    """Where fronts end and a tail goes on (docs/split.md).

    Attributes:
        unit: its number in the plan; it means something for this export only.
        tensors: what crosses, in this order: the last outputs of a front, the first inputs of the tail's segment.
        gradients: those of `tensors` whose gradient `grad.NAME` comes back.
        inputs: inputs of the model that the tail reads after it; they go along.
        segment: of this bundle: the one that makes the tensors in a front, the one that takes them in a tail.
        devices: boards whose fronts end here.
        features: the tensor that a head of the board's own may go on, of `gradients`; empty where there is none.
        features_axis: the axis of its features; over all others but the first a mean is taken.
    """

    unit: int = field(metadata=at_least(1))
    tensors: tuple[str, ...]
    gradients: tuple[str, ...]
    inputs: tuple[str, ...]
    segment: str
    devices: tuple[str, ...]
    features: str = ""
    features_axis: int = field(default=0, metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """One model of which boards hold fronts and `tail` all of it: a front has its own border, a tail those of all.

    Bundles of one export have the same `id`: their tensors meet.
    """

    id: str = field(metadata=matching(NAME))
    role: Literal["front", "tail"]
    tail: str
    borders: tuple[Border, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    def border_of(self, device: str) -> Border | None:
        """Where the front of a board ends; None if it is not one of these."""
        return next((border for border in self.borders if device in border.devices), None)


def forward_only(m: Manifest) -> bool:
    """Whether a bundle is a front without backward graphs: it learns by differences of its border."""
    kinds = {graph.kind for segment in m.segments for graph in segment.graphs}
    return m.split is not None and m.split.role == "front" and "backward" not in kinds


def border_problems(m: Manifest) -> list[str]:
    """Borders that no segment has as they are listed."""
    if m.split is None:
        return []
    problems = []
    if m.split.role == "front" and len(m.split.borders) != 1:
        problems.append(f"a front has one border, and {len(m.split.borders)} are listed")
    if m.split.role == "front" and any(b.segment != m.segments[-1].name for b in m.split.borders if m.segments):
        problems.append("a front ends at another segment than its last")
    segments = {segment.name: segment for segment in m.segments}
    for border in m.split.borders:
        where = f"the border at unit {border.unit}"
        if border.segment not in segments:
            problems.append(f"{where} is in unknown segment {border.segment!r}")
            continue
        problems += [f"{where} {problem}" for problem in _of(border, segments[border.segment], m.split.role)]
    return problems


def _of(border: Border, segment: Segment, role: str) -> list[str]:
    problems = []
    met = segment.outputs if role == "front" else segment.inputs
    if not border.tensors or met[: len(border.tensors)] != border.tensors:
        problems.append(f"has the tensors {list(border.tensors)}, where {segment.name} has {list(met)}")
    strange = [name for name in (*border.gradients, *filter(None, (border.features,))) if name not in border.tensors]
    if strange:
        problems.append(f"names {', '.join(strange)}, which do not cross there")
    for graph in segment.graphs if border.gradients else ():
        if graph.kind == "backward":
            there = {t.name for t in (graph.inputs if role == "front" else graph.outputs)}
            absent = [name for name in border.gradients if f"grad.{name}" not in there]
            if absent:
                problems.append(f"has gradients that {segment.name}.backward does not know: {', '.join(absent)}")
    forward = role == "front"  # it may go by differences
    if border.gradients and not forward and not any(graph.kind == "backward" for graph in segment.graphs):
        problems.append(f"has gradients, but {segment.name} has no backward graph")
    return problems
