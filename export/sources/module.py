"""The door for torch modules: `module.py:factory`, by torch.onnx.export(dynamo=True), compared with the module."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from console.errors import MissingDependency, UnsupportedModel, UsageError, VerificationError
from export.preprocess import sound
from export.quiet import quiet
from export.sources.captured import Captured
from export.sources.deploy import deployed
from export.sources.factory import Offered, offered
from export.sources.folder import first_line
from export.sources.onnx_file import capture_onnx
from wire.files import file_digest

if TYPE_CHECKING:
    import torch

# from 23 on scaled dot products become one Attention, which would only be written out again
OPSET = 18
TOLERANCE = 1e-4
INLINE_BYTES = 1024


def capture_module(source: str, work: Path, sizes: Mapping[str, int] | None = None) -> Captured:
    """Export what a factory returns.

    Args:
        source: `FILE.py:FACTORY`; the file is run. See `docs/sources.md` for what it may return.
        work: gets the exported graph and its weights; made when absent.
        sizes: of symbolic dimensions other than the micro-batch, by name.

    Raises:
        UsageError: the source or its states name what there is not.
        MissingDependency: torch is not installed.
        StorageError: there is no such file.
        UnsupportedModel: the file or factory raises, or the module cannot be exported.
        VerificationError: the exported graph, or the module's serving form, computes something else.
    """
    if source.endswith(".pt2"):
        raise UsageError(
            f"expected FILE.py:FACTORY, found {source}; reading it would run what is pickled in it: "
            "if it is yours, return torch.export.load(...) from a factory"
        )
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            f"expected torch, found none ({first_line(error)}); install edgequilt[export]"
        ) from error
    with quiet(), torch.no_grad():
        given, path, name = offered(source)
        module = given.module
        if isinstance(module, torch.nn.Module):
            module.eval()
            module, _ = deployed(module, lambda one: _outputs(one, given))
            given = replace(given, module=module)
        else:
            module = module.module()
        work.mkdir(parents=True, exist_ok=True)
        original, fixed = _export(given, module, work)
        _compare(original, given, module, fixed=fixed)
    captured = capture_onnx(original, work, sizes, dict(given.states))
    return replace(
        captured,
        name=name if name not in {"factory", "make", "build", "model"} else path.stem,
        preprocess=sound(given.sampling_rate),
        task="module",
        source_sha256=_digest(path, name, module),
        modules=_modules(captured),
    )


def _export(given: Offered, module: torch.nn.Module, work: Path) -> tuple[Path, bool]:
    """The exported graph, and whether its micro-batch is fixed."""
    import torch

    outputs = _output_names(given, module)
    tries: list[Any] = [given.dynamic_shapes]
    if isinstance(given.module, torch.export.ExportedProgram):
        tries = [None]
    elif given.dynamic_shapes is None:
        batch = torch.export.Dim("batch", min=1, max=1 << 20)
        tries = [_first_dimensions(given, batch), None]
    error: Exception | None = None
    for shapes in tries:
        example = given if shapes is None else _widened(given)
        try:
            with redirect_stderr(StringIO()):  # it prints the graph in which it failed
                program = torch.onnx.export(
                    given.module,
                    example.args,
                    kwargs=example.kwargs or None,
                    dynamo=True,
                    opset_version=OPSET,
                    dynamic_shapes=shapes,
                    output_names=outputs,
                    verbose=False,
                )
        except Exception as failed:  # noqa: BLE001  # torch raises many classes; the last one is told below
            error = failed
            continue
        if program is None:
            continue
        original = work / "original.onnx"
        ir.save(program.model, original, external_data="original.bin", size_threshold_bytes=INLINE_BYTES)
        return original, shapes is None
    raise UnsupportedModel(
        f"expected a module that torch can export, found that {type(module).__name__} cannot be "
        f"({_reason(error)}); see torch.export's own advice on such code"
    ) from error


def _first_dimensions(given: Offered, batch: Any) -> Any:
    """The micro-batch as first dimension of every input that has one."""

    def of(value: torch.Tensor) -> Any:
        return {0: batch} if value.dim() else None

    if given.kwargs:
        return {name: of(value) for name, value in given.kwargs.items()}
    return tuple(of(value) for value in given.args)


def _widened(given: Offered) -> Offered:
    """Example inputs of at least two rows: torch takes a size of one for a constant."""

    def wide(value: torch.Tensor) -> torch.Tensor:
        return value.repeat(2, *[1] * (value.dim() - 1)) if value.dim() and value.shape[0] == 1 else value

    if given.dynamic_shapes is not None:
        return given
    return replace(given, args=tuple(map(wide, given.args)), kwargs={k: wide(v) for k, v in given.kwargs.items()})


def _outputs(module: torch.nn.Module, given: Offered) -> list[torch.Tensor]:
    """Outputs on the example inputs, flat."""
    import torch
    from torch.utils._pytree import tree_leaves

    try:
        made = module(*given.args, **given.kwargs)
    except Exception as error:  # a user's module may raise anything
        raise UnsupportedModel(
            f"expected {type(module).__name__} to run on its example inputs, found {first_line(error)}; mend them"
        ) from error
    return [value for value in tree_leaves(made) if isinstance(value, torch.Tensor)]


def _output_names(given: Offered, module: torch.nn.Module) -> list[str]:
    """The factory's names; else the keys of a dictionary; else output, or output.0, output.1, ..."""
    import torch
    from torch.utils._pytree import keystr, tree_flatten_with_path

    count = len(_outputs(module, given))
    if given.outputs:
        if len(given.outputs) != count:
            raise UnsupportedModel(f"expected names for {count} outputs, found {', '.join(given.outputs)}; name each")
        return list(given.outputs)
    found, _ = tree_flatten_with_path(module(*given.args, **given.kwargs))
    keys = [keystr(path).strip("[]'\".") for path, value in found if isinstance(value, torch.Tensor)]
    if len(keys) == count and all(key.isidentifier() for key in keys):
        return keys
    return ["output"] if count == 1 else [f"output.{i}" for i in range(count)]


def _compare(original: Path, given: Offered, module: torch.nn.Module, *, fixed: bool) -> None:
    """onnxruntime on the exported graph against the module, on the example and, if it may vary, on more rows."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(original), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    examples = [given] if fixed else [given, _widened(given)]
    for example in examples:
        values = [*example.args, *example.kwargs.values()]
        feeds = {name: value.numpy() for name, value in zip(names, values, strict=False)}
        try:
            got = session.run(None, feeds)
        except Exception as error:  # onnxruntime's errors have no common class
            raise VerificationError(f"expected the exported graph to run, found {first_line(error)}") from error
        for index, (found, wanted) in enumerate(zip(got, _outputs(module, example), strict=True)):
            expected = wanted.numpy()
            if found.shape != expected.shape or not np.allclose(found, expected, TOLERANCE, TOLERANCE, equal_nan=True):
                worst = np.abs(found.astype(np.float64) - expected).max() if found.shape == expected.shape else np.inf
                raise VerificationError(
                    f"expected the exported graph to agree with {type(module).__name__} within {TOLERANCE:g}, found "
                    f"a difference of {worst:.2g} at output {index}; report this module, and do not use the graph"
                )


def _modules(captured: Captured) -> dict[str, str]:
    """Module paths by weight: torch's exporter keeps the names of parameters."""
    own = {
        name: name.rpartition(".")[0]
        for name, value in captured.model.graph.initializers.items()
        if name.endswith(".weight") and value.shape is not None and len(value.shape) >= 2
    }
    return {**own, **captured.modules}


def _digest(path: Path, name: str, module: torch.nn.Module) -> str:
    """SHA-256 over the file, the factory's name and every parameter and buffer."""
    sha = hashlib.sha256(f"{file_digest(path)}\0{name}\n".encode())
    for key, value in module.state_dict().items():
        held = value.detach().contiguous().cpu()
        sha.update(f"{key}\0{held.dtype}\0{tuple(held.shape)}\n".encode())
        sha.update(memoryview(held.flatten().view(_bytes()).numpy()))
    return sha.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8


def _reason(error: BaseException | None) -> str:
    """The deepest cause: torch wraps what happened in a report of many lines."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    return first_line(error) if error is not None else "no program came back"
