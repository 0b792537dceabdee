"""Everybody who makes something of a model: us by our command, onnxruntime and optimum, torch and bitsandbytes."""

from __future__ import annotations

import logging
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.quantized.case import ROWS, Case, Values
from bench.quantized.variant import DEFAULTS, OnnxVariant, TorchVariant, Variant
from export.chain import links_of
from export.measure import ROOT
from wire.bundle import open_bundle

LOG = logging.getLogger("bench")
OURS = ("fp32", "int8", "int4", "int8-dynamic", "auto")
Made = tuple[str, "Variant | str"]  # what was made, or why nothing was


def made_by_all(case: Case, formats: tuple[str, ...], work: Path) -> Iterator[Made]:
    """Everybody's in turn; what fails says why."""
    makers: list[tuple[str, Callable[[], Variant]]] = [
        ("original", lambda: _onnx("original", case, case.graph)),
        *((f"ours {fmt}", lambda fmt=fmt: _ours(case, fmt, work)) for fmt in (*formats, *case.formats)),
        ("onnxruntime dynamic", lambda: _dynamic(case, work)),
        ("onnxruntime 4 bits", lambda: _four_bits(case, work)),
        ("optimum dynamic", lambda: _optimum(case, work)),
        ("torch fp32", lambda: TorchVariant("torch fp32", "torch", case, case.folder, _safetensors(case.folder))),
        ("torch bitsandbytes nf4", lambda: _bitsandbytes(case, work)),
    ]
    for name, make in makers:
        LOG.info("%s: %s", case.name, name)
        try:
            yield name, make()
        except Exception as error:  # noqa: BLE001 # whatever other people's tools raise is a cell of the table
            lines = str(error).strip().splitlines() or [type(error).__name__]
            yield name, lines[0]


def _ours(case: Case, fmt: str, work: Path) -> Variant:
    """A bundle per number of rows, each run with the options that its manifest says; `fmt` as after `--quant`."""
    graphs, sizes = {}, {}
    for rows in ROWS:
        out = work / f"{case.name}-{re.sub(r'[^a-z0-9]+', '-', fmt)}-{rows}"
        _export(case.fixed(rows), case.feeds(rows), fmt, out)
        bundle = open_bundle(out / "board", None)
        (link,) = links_of(bundle)
        link = link.served()
        graphs[rows] = (link.forward, link.forward_options)
        sizes[rows] = sum(path.stat().st_size for path in bundle.folder.iterdir() if path.name.startswith("segment"))
    return OnnxVariant(f"ours {fmt}", "ours", case, sizes[case.judged_rows], graphs)


def _export(graph: Path, fed: Values, fmt: str, out: Path) -> None:
    sample = graph.with_suffix(".npz")
    arrays: dict[str, Any] = dict(fed)
    np.savez(sample, **arrays)
    command = [
        sys.executable,
        str(ROOT / "edgequilt.py"),
        "export",
        str(graph),
        "--mode",
        "serve",
        "--quant",
        *shlex.split(fmt),
    ]
    command += ["--adapter-targets", "", "--budget", "4GiB", "--sample", str(sample), "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1].removeprefix("edgequilt: "))


def _onnx(name: str, case: Case, path: Path) -> OnnxVariant:
    """One file for all rows, with onnxruntime's own options on one thread."""
    beside = path.with_suffix(".bin")
    size = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
    return OnnxVariant(name, "onnxruntime", case, size, dict.fromkeys(ROWS, (path, DEFAULTS)))


def _dynamic(case: Case, work: Path) -> Variant:
    from onnxruntime.quantization import quantize_dynamic

    path = work / f"{case.name}-dynamic.onnx"
    quantize_dynamic(case.graph, path)
    return _onnx("onnxruntime dynamic", case, path)


def _four_bits(case: Case, work: Path) -> Variant:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(case.graph))
    quantizer.process()
    path = work / f"{case.name}-nbits.onnx"
    quantizer.model.save_model_to_file(str(path), use_external_data_format=False)
    return _onnx("onnxruntime 4 bits", case, path)


def _optimum(case: Case, work: Path) -> Variant:
    from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer
    from transformers import AutoConfig

    for_machine: Any = AutoQuantizationConfig.avx2 if platform.machine() == "x86_64" else AutoQuantizationConfig.arm64
    quantizer = ORTQuantizer(case.graph, config=AutoConfig.from_pretrained(case.folder))
    out = work / f"{case.name}-optimum"
    quantizer.quantize(save_dir=out, quantization_config=for_machine(is_static=False))
    (path,) = out.glob("*.onnx")
    return _onnx("optimum dynamic", case, path)


def _bitsandbytes(case: Case, work: Path) -> Variant:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    kind = AutoModelForCausalLM if case.output == "logits" else AutoModel
    folder = work / f"{case.name}-nf4"
    kind.from_pretrained(case.folder, quantization_config=config, device_map="cpu").save_pretrained(folder)
    return TorchVariant("torch bitsandbytes nf4", "torch", case, folder, _safetensors(folder))


def _safetensors(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
