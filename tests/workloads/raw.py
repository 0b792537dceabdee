"""The graphs of a workload straight from the exporters, without any door of ours."""

from __future__ import annotations

import inspect
from pathlib import Path
from runpy import run_path
from typing import Any

import torch

from export.quiet import quiet
from tests.workloads.registry import Workload

# what the doors ask for by name; caches are the decoders' own affair
PLAIN_TASKS = {
    "text-generation-with-past": "text-generation",
    "text2text-generation-with-past": "text2text-generation",
}


def raw_graphs(workload: Workload, folder: Path) -> list[Path]:
    """ONNX files of a workload, as optimum, torch or somebody else wrote them; T5 has two.

    Args:
        workload: what to export.
        folder: where sources and graphs are kept; what is there already is not made again.
    """
    source = workload.source(folder)
    if workload.kind == "onnx":
        return [Path(source)]
    out = folder / f"{workload.name}-raw"
    if not out.exists():
        out.mkdir(parents=True)
        with quiet():
            (_optimum if workload.kind == "folder" else _torch)(workload, source, out)
    return sorted(path for path in out.glob("*.onnx") if path.name != "decoder_model_merged.onnx")


def _optimum(workload: Workload, source: str, out: Path) -> None:
    from optimum.exporters.onnx import main_export

    main_export(
        source,
        str(out),
        task=PLAIN_TASKS.get(workload.task, workload.task),
        library_name="transformers",
        opset=18,
        do_validation=False,
        local_files_only=True,
    )


def _torch(workload: Workload, source: str, out: Path) -> None:
    path, _, factory = source.rpartition(":")
    made: Any = run_path(path)[factory]()
    module = getattr(made, "module", made)
    names = list(inspect.signature(module.forward).parameters)
    examples = module.example_inputs if module is made else dict(zip(names, made.inputs, strict=True))
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        module,
        kwargs=examples,
        f=str(out / "model.onnx"),
        dynamo=True,
        opset_version=18,
        dynamic_shapes={name: {0: batch} for name in names},
        output_names=list(getattr(made, "outputs", ("output",))),
        verbose=False,
    )
