"""The one door to optimum: a Hugging Face encoder becomes an `onnx_ir.Model` with named weights."""

from __future__ import annotations

from importlib.metadata import distributions, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass

from console.errors import MissingDependency, UnsupportedModel, UsageError
from export.linears import name_weights
from export.preprocess import image_preprocessing, text_preprocessing
from export.quiet import quiet
from export.sources.captured import Captured
from export.sources.folder import first_line, read_json, resolve, source_digest, weight_names

# torch's exporter (TorchScript) writes at most opset 18 well; freeze() raises it to 21
RAW_OPSET = 18
TASKS: dict[str, tuple[Literal["text", "image"], ...]] = {
    "feature-extraction": ("text", "image"),
    "text-classification": ("text",),
    "image-classification": ("image",),
}
READS: dict[Literal["text", "image"], tuple[str, ...]] = {
    "text": ("input_ids", "attention_mask", "token_type_ids"),
    "image": ("pixel_values",),
}
# what optimum-onnx 0.1 declares of its neighbours
NEEDED = "optimum-onnx 0.1 with transformers 4.36 to 4.57"


def capture_encoder(source: str, task: str, work: Path) -> Captured:
    """Export an encoder.

    Args:
        source: a Hugging Face id, or a folder that `save_pretrained` wrote.
        task: "feature-extraction", "text-classification" or "image-classification"; it must fit the model.
        work: a folder for the raw graph, its weights and the tokenizer; made when absent, kept for
            verification, owned by the caller.

    Raises:
        UsageError: an unknown task.
        MissingDependency: optimum is not there, or not with the versions that it needs.
        UnsupportedModel: the model cannot be fetched, exported or used as an encoder.
    """
    if task not in TASKS:
        raise UsageError(f"expected one of the tasks {', '.join(TASKS)}, found {task!r}")
    folder = resolve(source)
    config = read_json(folder, "config.json", required=True)
    sha256 = source_digest(folder)
    work.mkdir(parents=True, exist_ok=True)
    original = _export(folder, config, work)
    model = ir.load(original)
    modality, hidden = _checked(model, task, source)
    if modality == "text":
        preprocess = text_preprocessing(folder, work)
    else:
        preprocess = image_preprocessing(folder)
        _fix_pixels(model, preprocess.parameters)
    IdentityEliminationPass()(model)
    modules = name_weights(model)
    _refuse_invented(modules, weight_names(folder), source)
    name = folder.resolve().name if Path(source).expanduser().is_dir() else source
    return Captured(model, name, task, sha256, modality, hidden, preprocess, original, modules)


def _export(folder: Path, config: dict[str, Any], work: Path) -> Path:
    """Run optimum's exporter; the path of its graph, with all weights in one mapped file beside it."""
    original = work / "original.onnx"
    with TemporaryDirectory(dir=work, prefix="optimum-") as raw:
        _run_optimum(folder, str(config.get("model_type", "")), raw)
        graphs = sorted(Path(raw).glob("*.onnx"))
        if [g.name for g in graphs] != ["model.onnx"]:
            parts = ", ".join(g.name for g in graphs) or "no graph"
            raise UnsupportedModel(
                f"expected an encoder in one graph, found {parts} for {folder.name}; choose an encoder"
            )
        # below 1 KB a tensor is cheaper inside the graph than as a region of the file beside it
        ir.save(ir.load(graphs[0]), original, external_data="original.bin", size_threshold_bytes=1024)
    return original


def _run_optimum(folder: Path, model_type: str, into: str) -> None:
    with quiet():
        main_export = _optimum(model_type, folder)
        try:
            main_export(
                str(folder),
                into,
                task="feature-extraction",
                # names of nodes and outputs change with the libraries that optimum happens to find
                library_name="transformers",
                opset=RAW_OPSET,
                do_validation=False,  # it only warns; verification compares, and fails
                local_files_only=True,
            )
        except Exception as error:  # whatever torch, transformers and optimum raise, the user gets one sentence
            raise UnsupportedModel(
                f"expected a model that optimum can export, found that {folder.name} cannot be "
                f"({first_line(error)}); choose an encoder such as BERT, DistilBERT, MiniLM or ViT"
            ) from error


def _optimum(model_type: str, folder: Path) -> Any:
    """The export function of optimum, after a look whether it knows the architecture.

    Raises:
        MissingDependency: it cannot be imported.
        UnsupportedModel: transformers or optimum do not know the architecture.
    """
    try:
        from optimum.exporters.onnx import main_export
        from optimum.exporters.tasks import TasksManager
        from transformers import CONFIG_MAPPING
    except ImportError as error:
        raise MissingDependency(
            f"expected {NEEDED}, found {_installed()} ({first_line(error)}); install edgequilt[export]"
        ) from error
    known = model_type in CONFIG_MAPPING
    try:
        supported = known and TasksManager.get_supported_tasks_for_model_type(
            model_type, "onnx", library_name="transformers"
        )
    except (KeyError, ValueError):
        supported = False
    if not supported or "feature-extraction" not in supported:
        who = (
            "optimum-onnx has no exporter for it"
            if known
            else f"transformers {version('transformers')} does not know it"
        )
        raise UnsupportedModel(
            f"expected an architecture that can be exported, found {model_type!r} in {folder / 'config.json'}: {who}; "
            "choose an encoder such as BERT, DistilBERT, MiniLM or ViT"
        )
    return main_export


def _installed() -> str:
    there = {d.metadata["Name"]: d.version for d in distributions()}
    return ", ".join(
        f"{name} {there[name]}" if name in there else f"no {name}"
        for name in ("optimum", "optimum-onnx", "transformers", "torch")
    )


def _checked(model: ir.Model, task: str, source: str) -> tuple[Literal["text", "image"], str]:
    """Modality and hidden output of a raw graph."""
    inputs = [str(value.name) for value in model.graph.inputs]
    modality: Literal["text", "image"] = "image" if "pixel_values" in inputs else "text"
    extra = [name for name in inputs if name not in READS[modality]]
    if extra or (modality == "text" and "attention_mask" not in inputs):
        wanted = "input_ids and attention_mask (and token_type_ids), or pixel_values"
        raise UnsupportedModel(f"expected an encoder that reads {wanted}, found {', '.join(inputs)} in {source}")
    if modality not in TASKS[task]:
        raise UnsupportedModel(
            f"expected a model that reads {TASKS[task][0]} for {task}, found one that reads {modality} in {source}; "
            "change the task or the model"
        )
    hidden = model.graph.outputs[0]
    if hidden.name != "last_hidden_state" or hidden.shape is None or len(hidden.shape) != 3:
        raise UnsupportedModel(
            f"expected an encoder whose output is last_hidden_state [batch, tokens, features], found {hidden.name} "
            f"{hidden.shape} in {source}"
        )
    return modality, str(hidden.name)


def _refuse_invented(modules: dict[str, str], stored: set[str], source: str) -> None:
    """Every linear layer's weight comes from the source.

    transformers draws at random what it does not find in the files, and only logs it.
    """
    ends = {name[start:] for name in stored for start in _starts(name)}
    invented = [path for path in modules.values() if f"{path}.weight" not in ends]
    if invented:
        raise UnsupportedModel(
            f"expected weights for every layer in {source}, found none for {invented[0]} "
            f"({len(invented)} of {len(modules)} layers); is config.json that of another model?"
        )


def _starts(name: str) -> list[int]:
    """Where the parts of a dotted name begin: files may prefix the path of a module (`bert.`, `vit.`)."""
    return [0, *(index + 1 for index, character in enumerate(name) if character == ".")]


def _fix_pixels(model: ir.Model, parameters: dict[str, Any]) -> None:
    """Write channels and size into the picture's shape: an encoder of pictures has one size."""
    pixels = model.graph.inputs[0]
    batch = pixels.shape[0] if pixels.shape is not None else "batch_size"
    pixels.shape = ir.Shape([batch, parameters["channels"], parameters["height"], parameters["width"]])
