"""A user's own Python file that makes a torch module: `module.py:factory`.

The file is run, with all that it imports: it is the user's own code, as in any Python program.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import StorageError, UnsupportedModel, UsageError
from export.sources.folder import first_line

if TYPE_CHECKING:
    import torch

FACTORY = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
WANTED = "(module, inputs) or an object with .module and .inputs"


@dataclass(frozen=True)
class Offered:
    """What a factory returned.

    Attributes:
        module: a torch.nn.Module or a torch.export.ExportedProgram.
        args: example inputs by position.
        kwargs: example inputs by name.
        dynamic_shapes: as torch.export takes them; None for a micro-batch as first dimension of every input.
        states: outputs by the input that they are fed to at the next run.
        outputs: names of the outputs, in order; empty to have them named.
        sampling_rate: in Hz, of a model that takes samples of sound; None where nothing is said.
    """

    module: Any
    args: tuple[torch.Tensor, ...] = ()
    kwargs: dict[str, torch.Tensor] = field(default_factory=dict)
    dynamic_shapes: Any = None
    states: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    sampling_rate: int | None = None


def offered(source: str) -> tuple[Offered, Path, str]:
    """Call the factory of `FILE.py:NAME`; what it returned, the file and the name.

    Raises:
        UsageError: the source has another form.
        StorageError: there is no such file.
        UnsupportedModel: the file or the factory raises, or returns something else.
    """
    match = FACTORY.fullmatch(source)
    if match is None:
        raise UsageError(f"expected FILE.py:FACTORY, found {source}; name the function that returns the module")
    path, name = Path(match["file"]).expanduser(), match["name"]
    if not path.is_file():
        raise StorageError(f"expected a Python file at {path}, found none; check the path")
    made = _call(_imported(path), name, path)
    return _read(made, f"{path.name}:{name}"), path, name


def _imported(path: Path) -> Any:
    """The file as a module of its own; it may import what lies beside it."""
    label = f"edgequilt_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(label, path)
    if spec is None or spec.loader is None:
        raise UnsupportedModel(f"expected a Python file at {path}, found one that cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[label] = module  # dataclasses and torch look a class's module up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's file; it is told in one line
        raise UnsupportedModel(
            f"expected {path} to be imported, found that it raises {first_line(error)}; mend the file"
        ) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _call(module: Any, name: str, path: Path) -> Any:
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UnsupportedModel(
            f"expected a function {name} in {path}, found {', '.join(known[:8]) or 'no function'}; check its name"
        )
    try:
        return factory()
    except (Exception, SystemExit) as error:  # the same
        raise UnsupportedModel(
            f"expected {path.name}:{name}() to return {WANTED}, found that it raises {first_line(error)}; mend it"
        ) from error


def _read(made: Any, where: str) -> Offered:
    """Any of the accepted forms as one."""
    import torch

    if isinstance(made, torch.export.ExportedProgram):
        args, kwargs = made.example_inputs or ((), {})
        return Offered(made, tuple(args), dict(kwargs))
    if isinstance(made, tuple) and len(made) == 2:
        module, inputs, more = made[0], made[1], None
    elif isinstance(made, torch.nn.Module):
        module, inputs, more = made, getattr(made, "example_inputs", None), None
    else:
        module, inputs, more = getattr(made, "module", None), getattr(made, "inputs", None), made
    if not isinstance(module, torch.nn.Module) or inputs is None:
        lacks = "without example_inputs" if isinstance(made, torch.nn.Module) else "instead"
        raise UnsupportedModel(f"expected {where}() to return {WANTED}, found a {type(made).__name__} {lacks}")
    args, kwargs = _inputs(inputs, where)
    return Offered(
        module,
        args,
        kwargs,
        getattr(more, "dynamic_shapes", None),
        dict(getattr(more, "states", None) or {}),
        tuple(getattr(more, "outputs", None) or ()),
        getattr(more, "sampling_rate", None) or getattr(module, "sampling_rate", None),
    )


def _inputs(inputs: Any, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    given = inputs if isinstance(inputs, Mapping | list | tuple) else (inputs,)
    values: Sequence[Any] = list(given.values()) if isinstance(given, Mapping) else list(given)
    other = sorted({type(value).__name__ for value in values if not isinstance(value, torch.Tensor)})
    if other or not values:
        found = ", ".join(other) or "none"
        raise UnsupportedModel(f"expected tensors as example inputs of {where}(), found {found}; wrap the module")
    return ((), dict(given)) if isinstance(given, Mapping) else (tuple(values), {})
