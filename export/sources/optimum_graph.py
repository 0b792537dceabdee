"""The one door to optimum: it runs torch's exporter on a Hugging Face model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
from packaging.requirements import Requirement

from console.errors import EdgequiltError, MissingDependency, UnsupportedModel, UsageError, VerificationError
from export.quiet import quiet
from export.sources.against_torch import check_export
from export.sources.folder import first_line
from export.write import FULL

# torch's exporter (TorchScript) writes at most opset 18 well; freeze() raises it to 21
RAW_OPSET = 18
# what optimum-onnx 0.1 declares of its neighbours
NEEDED = "optimum-onnx 0.1 with transformers 4.36 to 4.57"
KNOWN = "BERT, DistilBERT, MiniLM, ViT, GPT-2, Llama or T5"
POSITIONS = {"position_ids": {0: "batch_size", 1: "sequence_length"}}


def raw_graph(folder: Path, config: dict[str, Any], task: str, into: Path, **options: Any) -> None:
    """Run optimum's exporter and write its graph, with all weights in one mapped file beside it.

    Args:
        folder: of the model.
        config: what its config.json says.
        task: as optimum names tasks; `-with-past` where caches go in and out.
        into: the graph's path.
        options: of optimum's `main_export`.

    Raises:
        UsageError: no such task.
        MissingDependency: optimum is not there, or not with the versions that it needs.
        UnsupportedModel: the model cannot be exported, or not for this task.
    """
    with TemporaryDirectory(dir=into.parent, prefix="optimum-") as raw:
        _run_optimum(folder, str(config.get("model_type", "")), raw, task, options)
        graphs = sorted(Path(raw).glob("*.onnx"))
        if [g.name for g in graphs] != ["model.onnx"]:
            parts = ", ".join(g.name for g in graphs) or "no graph"
            raise UnsupportedModel(
                f"expected one graph for the task {task}, found {parts} for {folder.name}; choose another task or model"
            )
        # below 1 KB a tensor is cheaper inside the graph than as a region of the file beside it
        ir.save(ir.load(graphs[0]), into, external_data=f"{into.stem}.bin", size_threshold_bytes=1024)


def _run_optimum(folder: Path, model_type: str, into: str, task: str, options: dict[str, Any]) -> None:
    with quiet():
        main_export = _optimum(model_type, folder, task)
        if task.endswith("-with-past"):
            options |= _with_positions(folder, model_type, task)
        try:
            with _checked() as checked:
                main_export(
                    str(folder),
                    into,
                    task=task,
                    # names of nodes and outputs change with the libraries that optimum happens to find
                    library_name="transformers",
                    opset=RAW_OPSET,
                    do_validation=True,
                    local_files_only=True,
                    dtype="fp32",
                    **options,
                )
                if not checked:
                    raise VerificationError("expected optimum to have its graph compared, found that it did not")
        except OSError as error:
            if error.errno in FULL:
                raise  # it is not the model's fault
            raise _refusal(folder, task, error) from error
        except Exception as error:  # whatever torch, transformers and optimum raise, the user gets one sentence
            known = error.__cause__ if isinstance(error.__cause__, VerificationError) else error
            if isinstance(known, VerificationError):
                raise known from None
            raise _refusal(folder, task, error) from error


def _refusal(folder: Path, task: str, error: Exception) -> EdgequiltError:
    """What an error of torch, transformers or optimum means: versions that do not fit, or the model."""
    if _clash():
        return MissingDependency(
            f"expected {NEEDED}, found {_installed()} ({first_line(error)}); install edgequilt[export]"
        )
    return UnsupportedModel(
        f"expected a model that optimum can export for {task}, found that {folder.name} cannot be "
        f"({first_line(error)}); choose another task, or a model such as {KNOWN}"
    )


@contextmanager
def _checked() -> Iterator[list[float]]:
    """Put our comparison, which refuses, in the place of optimum's, which warns; the differences that it found."""
    from optimum.exporters.onnx import convert

    theirs, found = convert.validate_models_outputs, []

    def ours(
        models_and_onnx_configs: dict[str, tuple[Any, Any]],
        onnx_named_outputs: list[list[str]],
        output_dir: Path,
        onnx_files_subpaths: list[str],
        input_shapes: dict[str, int],
        **_: Any,
    ) -> None:
        for (model, config), outputs, name in zip(
            models_and_onnx_configs.values(), onnx_named_outputs, onnx_files_subpaths, strict=True
        ):
            found.append(check_export(model, config, Path(output_dir) / name, outputs, input_shapes))

    convert.validate_models_outputs = ours
    try:
        yield found
    finally:
        convert.validate_models_outputs = theirs


def _optimum(model_type: str, folder: Path, task: str) -> Any:
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
        supported = list(
            TasksManager.get_supported_tasks_for_model_type(model_type, "onnx", library_name="transformers")
            if known
            else ()
        )
    except (KeyError, ValueError):
        supported = []
    if not supported:
        who = (
            "optimum-onnx has no exporter for it"
            if known
            else f"transformers {version('transformers')} does not know it"
        )
        raise UnsupportedModel(
            f"expected an architecture that can be exported, found {model_type!r} in {folder / 'config.json'}: {who}; "
            f"choose a model such as {KNOWN}"
        )
    if task not in supported:
        known_task = task.removesuffix("-with-past") in TasksManager.get_all_tasks()
        raise (UnsupportedModel if known_task else UsageError)(
            f"expected one of the tasks {', '.join(supported)} for {model_type}, found {task!r}; "
            "change the task or the model"
        )
    return main_export


def _installed() -> str:
    return ", ".join(f"{n} {_version(n)}" for n in ("optimum", "optimum-onnx", "transformers", "torch"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"


def _clash() -> bool:
    """Whether something that optimum-onnx declares is there in another version, or not at all."""
    try:
        wanted = [Requirement(text) for text in requires("optimum-onnx") or ()]
        due = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
        return not all(one.specifier.contains(version(one.name), prereleases=True) for one in due)
    except PackageNotFoundError:
        return True


def _with_positions(folder: Path, model_type: str, task: str) -> dict[str, Any]:
    """Positions as an input of a decoder that can take them, where optimum leaves them to the model.

    A model counts them by the length of its cache, which is the same in every run where caches have a fixed length.
    """
    import transformers
    from optimum.exporters.tasks import TasksManager

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    known = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=model_type, task=task, library_name="transformers"
    )
    ready = partial(known, config, use_past_in_inputs=True)
    model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if POSITIONS.keys() & ready().inputs.keys() or model is None:
        return {}
    if not POSITIONS.keys() & signature(model.forward).parameters.keys():
        return {}
    plain = known.func.inputs.fget

    def inputs(self: Any) -> dict[str, dict[int, str]]:
        return {**plain(self), **POSITIONS}

    positioned = type(known.func.__name__, (known.func,), {"inputs": property(inputs)})
    return {"custom_onnx_configs": {"model": partial(positioned, config, use_past_in_inputs=True, **known.keywords)()}}
