"""State in, state out: does what leaves fit where it enters at the next run?"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from console.errors import UnsupportedModel, UsageError
from export.quiet import quiet
from export.sources.captured import StatePair


def check_states(model: ir.Model, states: tuple[StatePair, ...]) -> None:
    """Check pairs of an input and an output.

    Raises:
        UsageError: there is no such input or output, or one is named twice.
        UnsupportedModel: type or shape differ.
    """
    if not states:
        return
    inputs = {str(value.name): value for value in model.graph.inputs}
    outputs = [str(value.name) for value in model.graph.outputs]
    for pair in states:
        for what, name, known in (("input", pair.input, list(inputs)), ("output", pair.output, outputs)):
            if name not in known:
                raise UsageError(
                    f"expected an {what} for the state {pair.input}={pair.output}, "
                    f"found no {name} among {', '.join(known)}"
                )
    for names in ([pair.input for pair in states], [pair.output for pair in states]):
        if len(set(names)) != len(names):
            raise UsageError(f"expected every state once, found {', '.join(names)}")
    inferred = _with_shapes(model)
    for pair in states:
        entering, leaving = _described(inputs[pair.input]), inferred[pair.output]
        if entering != leaving:
            raise UnsupportedModel(
                f"expected the state {pair.output} to be what {pair.input} takes, {entering}, found {leaving}; "
                "name another pair, or give sizes"
            )


def _with_shapes(model: ir.Model) -> dict[str, str]:
    """Type and shape of the outputs."""
    probe = model.clone()
    with quiet():
        ShapeInferencePass(data_prop=True)(probe)
    return {str(value.name): _described(value) for value in probe.graph.outputs}


def _described(value: ir.Value) -> str:
    kind = "an unknown type" if value.dtype is None else value.dtype.name.lower()
    if value.shape is None:
        return f"{kind} of unknown shape"
    dims = [str(dim if isinstance(dim, int) else dim.value) for dim in value.shape]
    return f"{kind} [{', '.join(dims)}]"
