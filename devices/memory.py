"""What the worker of a board needs in memory, in plain numbers (docs/plan.md, "Memory").

A worker is one process: its libraries, one session at a time with the weights that it maps, the activations
of one micro-batch, the adapters with what their optimiser keeps, and the boundary tensors between segments.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024

# All three measured on x86-64 with Python 3.11, numpy 2.4, onnxruntime 1.31.1, tokenizers 0.22; not on Arm.
# 47 MiB of imports and 3 of what a worker adds before its first session; the imports alone:
#   python -c "import numpy, onnxruntime, tokenizers; print(open('/proc/self/status').read())" | grep VmHWM
WORKER_BASE_BYTES = 50 * MIB
WORKER_IMPORTS = ("numpy", "onnxruntime", "tokenizers")
# A session that has run: 6 MiB for graph and kernels, 7 for the pages of onnxruntime that only a run touches.
SESSION_BYTES = 13 * MIB
# What allocators hold above the live bytes: 0 to 22 % over 40 graphs and options, forward graphs least.
FRAGMENTATION_PERCENT = 12

# Adapters are float32. Training keeps the values, their gradient and the two moments of AdamW
# (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2); forward-only trainers a changed copy instead
# of a gradient. Serving keeps the values.
ADAPTER_COPIES = {"train": 4, "train-forward": 4, "serve": 1}
FLOAT_BYTES = 4

MODES = ("train", "serve", "train-forward")


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

        >>> (Need(weights=20 * MIB, live=30 * MIB).total - WORKER_BASE_BYTES) // MIB
        66
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
