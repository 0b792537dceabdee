"""What a plan is made of: stretches of a model between legal cuts, and what some of them in a row need.

Plain numbers, which the exporter counts on real graphs (docs/plan.md, "What a segment needs").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wire.work import Work


@dataclass(frozen=True)
class Unit:
    """One stretch of the model between two neighbouring legal cuts.

    Attributes:
        name: where it begins, for messages.
        weight_bytes: of its weights, by format.
        kept_bytes_per_item: activations of one item that the backward pass needs.
        transient_bytes_per_item: most bytes of one item alive inside it beyond those.
        boundary_bytes_per_item: what crosses the cut at its end.
        adapter_values_per_rank: sum of in + out over its slots; 0 without slots.
        dequantized_bytes: its weights that products have as float32 for a while, by format, then by shape.
        carried_bytes_per_item: model inputs that units beyond its end read; they travel with a chain of boards.
        flops_per_item: operations of its arithmetic, forward (a multiply-add is two).
        moved_bytes_per_item: activations that its nodes read and write, forward.
        state_bytes: of what it keeps from run to run (KV caches, hidden states), whatever the batch.
        copied_bytes_per_item: what is alive besides where a segment ends here, for what leaves shares no memory.
        works: what is done at every run whatever the items, and for one item, by what formats are called together.
        tied: those of its weights that other units read as well, by name and format; a segment stores each once.
    """

    name: str
    weight_bytes: Mapping[str, int]
    kept_bytes_per_item: int
    transient_bytes_per_item: int
    boundary_bytes_per_item: int
    adapter_values_per_rank: int = 0
    dequantized_bytes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    carried_bytes_per_item: int = 0
    flops_per_item: int = 0
    moved_bytes_per_item: int = 0
    state_bytes: int = 0
    copied_bytes_per_item: int = 0
    works: Mapping[str, tuple[tuple[Work, ...], tuple[Work, ...]]] = field(default_factory=dict)
    tied: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass
class Stretch:
    """Sums over neighbouring units, extended one unit at a time."""

    quant: str
    micro_batch: int
    mode: str
    weights: int = 0
    kept: int = 0
    transient: int = 0
    copied: int = 0
    states: int = 0
    most: int = 0
    spare: dict[str, int] = field(default_factory=dict)
    tied: set[str] = field(default_factory=set)
    alive: list[int] = field(default_factory=list)  # in each unit, where nothing goes back
    read: dict[str, int] = field(default_factory=dict)  # the last unit that read a quantized weight of a shape

    def add(self, unit: Unit) -> None:
        """One unit more at its end."""
        again = (sizes[self.quant] for name, sizes in unit.tied.items() if name in self.tied)
        self.weights += unit.weight_bytes[self.quant] - sum(again)
        self.tied.update(unit.tied)
        self.kept += unit.kept_bytes_per_item
        self.transient = max(self.transient, unit.transient_bytes_per_item)
        self.copied = unit.copied_bytes_per_item
        self.states += unit.state_bytes
        self._dequantize(unit, unit.dequantized_bytes.get(self.quant, {}))

    def _dequantize(self, unit: Unit, sizes: Mapping[str, int]) -> None:
        """The runtime keeps one freed buffer per shape for the next weight of that shape, up to the last one."""
        here = len(self.alive)
        self.alive.append(self.micro_batch * unit.transient_bytes_per_item)
        for shape, size in sizes.items():
            for at in range(self.read.get(shape, here - 1) + 1, here + 1):
                self.alive[at] += size
                self.most = max(self.most, self.alive[at])
            self.read[shape] = here
        self.most = max(self.most, self.alive[here])
        self.spare.update(sizes)

    @property
    def live(self) -> int:
        """Activations, dequantized weights and the states that are fed, while what they become is made and copied.

        The backward pass reads all weights again, so that in training a buffer of every shape waits at the end.
        """
        back = self.micro_batch * self.transient + sum(self.spare.values())
        return self.micro_batch * self.kept + (back if self.mode == "train" else self.most) + self.states

    @property
    def ended(self) -> int:
        """The same for a segment that ends here."""
        return self.live + self.micro_batch * self.copied


def boundary(units: Sequence[Unit], position: int) -> int:
    """Bytes of one item that cross before unit `position`; 0 at both ends of the model."""
    return units[position - 1].boundary_bytes_per_item if 0 < position < len(units) else 0
