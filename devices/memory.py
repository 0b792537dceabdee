"""What the worker of a board needs in memory, in plain numbers (docs/plan.md, "What a segment needs").

A worker is one process: its libraries, one session at a time with the weights that it maps, the activations
of one micro-batch, the adapters with what their optimiser keeps, and the boundary tensors between segments.
What its libraries and a session take for themselves was measured and stands in memory.toml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.toml import read_toml
from wire.record import at_least, matching, read_record

MIB = 1024 * 1024
FILE = Path(__file__).with_name("memory.toml")


@dataclass(frozen=True)
class Constant:
    """A number in bytes, and how it was obtained."""

    value: int = field(metadata=at_least(0))
    source: str = field(metadata=matching(r"measured: .+"))


@dataclass(frozen=True)
class Constants:
    """What is independent of a model.

    Attributes:
        base_bytes: a process that has imported what every worker does. Texts are encoded in a process of their own.
        pictures_bytes: what reading pictures adds to that.
        worker_bytes: what a worker adds to that before its first session.
        session_bytes: a session of one node that has run: the runtime's own pages.
        node_bytes: what one more node adds to it.
        tensor_bytes: what one more stored weight adds to it, beside its values.
        operator_bytes: what one more kind of operator adds to it: the pages of its code.
    """

    machine: str
    versions: dict[str, str]
    base_bytes: Constant
    pictures_bytes: Constant
    worker_bytes: Constant
    session_bytes: Constant
    node_bytes: Constant
    tensor_bytes: Constant
    operator_bytes: Constant
    extra: dict[str, Any] = field(default_factory=dict)


CONSTANTS = read_record(Constants, read_toml(FILE), FILE.name)

# what a worker imports, by the kind of its preprocessing
IMPORTS = {
    "text": ("numpy", "onnxruntime"),
    "image": ("numpy", "onnxruntime", "PIL.Image"),
    "tensors": ("numpy", "onnxruntime"),
}
# Plans are made with one base, that of pictures: it is some 2 MiB above the other.
WORKER_BASE_BYTES = sum(c.value for c in (CONSTANTS.base_bytes, CONSTANTS.pictures_bytes, CONSTANTS.worker_bytes))
TYPICAL_NODES, TYPICAL_OPERATORS, TYPICAL_TENSORS = 300, 20, 150


def base_bytes(kind: str) -> int:
    """A process that has imported what a worker does, by the kind of its preprocessing.

    >>> base_bytes("text") == base_bytes("tensors") < base_bytes("image") < WORKER_BASE_BYTES
    True
    """
    return CONSTANTS.base_bytes.value + (CONSTANTS.pictures_bytes.value if kind == "image" else 0)


def session_bytes(nodes: int, operators: int, tensors: int) -> int:
    """What a session takes for itself: `nodes` in its graph, of so many kinds of `operators`, and stored `tensors`.

    >>> session_bytes(1001, 10, 5) - session_bytes(1, 10, 5) == 1000 * CONSTANTS.node_bytes.value
    True
    """
    c = CONSTANTS
    own = nodes * c.node_bytes.value + operators * c.operator_bytes.value + tensors * c.tensor_bytes.value
    return c.session_bytes.value + own


# of a segment whose graph is not made yet: a block or two of a transformer, forward and backward
SESSION_BYTES = session_bytes(TYPICAL_NODES, TYPICAL_OPERATORS, TYPICAL_TENSORS)

# What allocators hold above the live bytes: 0 to 22 % over 40 graphs and options, forward graphs least.
FRAGMENTATION_PERCENT = 12

# Adapters are float32. Training keeps the values, their gradient and the two moments of AdamW
# (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2); forward-only trainers a changed copy instead
# of a gradient. Serving keeps the values.
ADAPTER_COPIES = {"train": 4, "train-forward": 4, "serve": 1}
FLOAT_BYTES = 4

MODES = ("train", "serve", "train-forward")

# How far a prediction may be from what is measured, and from which size on that counts.
MISS_PERCENT, MISS_BYTES, JUDGED_FROM_BYTES = 10, 4 * MIB, 40 * MIB


def allowed_miss(measured: int, base: int) -> int:
    """The larger of 10 % of what lies above the runtime base and 4 MiB, in bytes.

    >>> allowed_miss(100 * MIB, 40 * MIB) // MIB, allowed_miss(60 * MIB, 40 * MIB) // MIB
    (6, 4)
    """
    return max((measured - base) * MISS_PERCENT // 100, MISS_BYTES)


@dataclass(frozen=True)
class Need:
    """The parts of a worker's peak, in bytes.

    Attributes:
        weights: the segment's weight file, counted as if every page of it were touched.
        live: activations, gradients and dequantized weights alive at once.
        adapters: adapter values of the whole model, with what their optimiser keeps.
        stored: boundary tensors that wait between segments.
    """

    weights: int
    live: int
    adapters: int = 0
    stored: int = 0

    @property
    def total(self) -> int:
        """The predicted peak of the process.

        >>> (Need(weights=20 * MIB, live=30 * MIB).total - WORKER_BASE_BYTES - SESSION_BYTES) // MIB
        53
        """
        held = self.live + self.live * FRAGMENTATION_PERCENT // 100
        return WORKER_BASE_BYTES + SESSION_BYTES + self.weights + held + self.adapters + self.stored


def adapter_bytes(values_per_rank: int, rank: int, mode: str) -> int:
    """Bytes of all adapters: `values_per_rank` is the sum of in + out over all slots.

    >>> adapter_bytes(768, 2, "serve")
    6144
    """
    return FLOAT_BYTES * values_per_rank * rank * ADAPTER_COPIES[mode]


def stored_bytes(mode: str, waiting: int, entering: int, leaving: int) -> int:
    """Boundary bytes held while one segment runs.

    Args:
        mode: of the worker.
        waiting: the inputs of this segment and of all before it, which their backward graphs still need.
        entering: the boundary before this segment.
        leaving: the boundary after it.

    Training holds the waiting inputs, the gradient that arrives (as large as `leaving`) and the one that is
    made (as large as `entering`); any other mode holds what enters and what leaves.

    >>> stored_bytes("train", 5, 3, 2), stored_bytes("serve", 5, 3, 2)
    (10, 5)
    """
    return waiting + entering + leaving if mode == "train" else entering + leaving
