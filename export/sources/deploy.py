"""Modules that train in one form and serve in another (RepVGG, MobileOne, ...) are brought to the one that serves.

They offer `reparameterize`, `switch_to_deploy` or `fuse`: branches are merged into one convolution, and nothing
that is computed may change.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from console.errors import UnsupportedModel, VerificationError
from export.sources.folder import first_line

if TYPE_CHECKING:
    import torch

METHODS = ("reparameterize", "switch_to_deploy", "fuse")
SAME_BAR = 1e-4


def deployed(
    module: torch.nn.Module, run: Callable[[torch.nn.Module], list[torch.Tensor]]
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The serving form of a module, and what was called for it: (module, ("stage1.0.fuse", ...)).

    The module itself is left as it is; it is returned where nothing in it offers another form. The outermost
    offer counts: what it calls inside is its own affair.

    Args:
        module: in evaluation mode.
        run: outputs of a module on the example inputs.

    Raises:
        UnsupportedModel: a method raises.
        VerificationError: outputs differ afterwards by more than 1e-4 of the largest.
    """
    if not any(_offer(part) for part in module.modules()):
        return module, ()
    before = run(module)
    other = copy.deepcopy(module)
    called: list[str] = []
    for path, part in list(other.named_modules()):
        name = _offer(part)
        inside = any(path.startswith(f"{done.rpartition('.')[0]}.") or "." not in done for done in called)
        if name is None or inside:
            continue
        full = f"{path}.{name}" if path else name
        replaced = _called(part, name, full)
        called.append(full)
        if replaced is not part and path:
            other.set_submodule(path, replaced)
        elif replaced is not part:
            other = replaced
    other.eval()
    _compare(before, run(other), called)
    return other, tuple(called)


def _offer(part: Any) -> str | None:
    """The first of the methods that a module has and that needs no arguments."""
    for name in METHODS:
        method = getattr(part, name, None)
        if not callable(method):
            continue
        parameters = inspect.signature(method).parameters.values()
        if all(p.default is not p.empty or p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD} for p in parameters):
            return name
    return None


def _called(part: Any, name: str, full: str) -> Any:
    """What takes the module's place: what the method returned, if that is a module, else the module."""
    import torch

    try:
        with torch.no_grad():
            made = getattr(part, name)()
    except Exception as error:  # a user's method may raise anything
        raise UnsupportedModel(
            f"expected {full}() to bring the module to its serving form, found {first_line(error)}; "
            "mend it, or return the serving form from the factory"
        ) from error
    return made if isinstance(made, torch.nn.Module) else part


def _compare(before: list[torch.Tensor], after: list[torch.Tensor], called: list[str]) -> None:
    names = f"{', '.join(called[:3])}{' ...' if len(called) > 3 else ''}"
    if len(before) != len(after) or any(b.shape != a.shape for b, a in zip(before, after, strict=True)):
        raise VerificationError(f"expected the same outputs after {names}, found others in number or shape; mend it")
    for b, a in zip(before, after, strict=True):
        scale = max(1.0, float(b.double().abs().max())) if b.numel() else 1.0
        error = float((a.double() - b.double()).abs().max()) / scale if b.numel() else 0.0
        if not error <= SAME_BAR:
            raise VerificationError(
                f"expected outputs to stay within {SAME_BAR:g} after {names}, found a relative difference of "
                f"{error:.2g}; mend it, or return the serving form from the factory"
            )
