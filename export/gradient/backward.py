"""The backward graph of one segment, from its forward graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from console.errors import UnsupportedModel
from export.gradient.again import make_again
from export.gradient.dims import FLOATS, dims_of, dtype_of
from export.gradient.loss import append_cross_entropy, label_count
from export.gradient.path import reachable, refuse_problems, trace
from export.gradient.split_loss import append_split_cross_entropy
from export.gradient.sweep import differentiate
from export.gradient.tape import Tape
from export.output_parts import Parts, parts_of


@dataclass(frozen=True)
class LossSpec:
    """Names around the loss: the forward output that it judges, its two inputs, and itself.

    `logits` is `[..., C]` with N rows; `labels` becomes an int64 input `[N]` (-100: does not count);
    `weights` an input `[N]` of the type of the logits; `loss` an output `[]`.
    """

    logits: str = "logits"
    labels: str = "labels"
    weights: str = "weights"
    loss: str = "loss"


def gradient_name(name: str) -> str:
    """How the gradient of the value `name` is called, as an input and as an output.

    >>> gradient_name("embeddings")
    'grad.embeddings'
    """
    return f"grad.{name}"


def build_backward(
    forward: ir.Model,
    *,
    wanted: Sequence[str],
    seeds: Mapping[str, str] | None = None,
    loss: LossSpec | None = None,
) -> ir.Model:
    """The graph that runs a segment forward and then back.

    Args:
        forward: The segment, left as it is. Weights are shared with the result, not copied.
        wanted: Inputs (adapters, boundaries) or initializers whose gradient is wanted.
        seeds: Per forward output the name of the input that brings its gradient. Without it and without
            a loss, every float output that depends on a wanted value gets `grad.<output>`.
        loss: For the last segment.

    Returns:
        A model with the inputs of `forward`, then labels and weights, then the gradients that come in; and
        the outputs loss and logits (with a loss; no logits of an output layer in parts), then `grad.<name>` for
        every wanted name in that order.
        Its file order is its execution order. Opset and IR version are those of `forward`.

    Raises:
        NoGradientRule, UnknownDimension: See `differentiate`.
        UnsupportedModel: A name is not in the graph, or a new name is taken already.
    """
    model = forward.clone()
    graph = model.graph
    _complete_shapes(model)
    targets = [_find(graph, name) for name in wanted]
    outputs = {value.name or "": value for value in graph.outputs}
    names = _seed_names(graph, outputs, targets, seeds, loss)
    judged = [_output(outputs, name) for name in (*names, *([loss.logits] if loss is not None else []))]
    refuse_problems(trace(graph, judged, targets))  # before the loss asks for shapes
    published: list[ir.Value] = []
    forward_nodes = len(graph)
    cotangents: dict[ir.Value, ir.Value] = {}
    if loss is not None:
        logits = _output(outputs, loss.logits)
        parts = parts_of(logits)
        judged_value = logits if parts is None else parts.hidden
        value, cotangents[judged_value] = _append_loss(graph, logits, loss, parts)
        published += [_publish(graph, value, loss.loss, published), *([logits] if parts is None else [])]
    for name, source in names.items():
        output = _output(outputs, name)
        seed = _add_input(graph, source, dtype_of(output), dims_of(output))
        cotangents[output] = Tape(graph).add(cotangents[output], seed) if output in cotangents else seed
    gradients = differentiate(graph, cotangents, targets)
    for name, target in zip(wanted, targets, strict=True):
        published.append(_publish(graph, gradients[target], gradient_name(name), published))
    graph.outputs.clear()
    graph.outputs.extend(published)
    make_again(graph, forward_nodes)
    RemoveUnusedNodesPass()(model)
    return model


def _complete_shapes(model: ir.Model) -> None:
    """Infer shapes where the graph does not state them; what stays unknown is refused by the sweep."""
    made = [value for node in model.graph for value in node.outputs if value.name]
    if any(value.shape is None or value.dtype is None for value in made):
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def _seed_names(
    graph: ir.Graph,
    outputs: Mapping[str, ir.Value],
    targets: Sequence[ir.Value],
    seeds: Mapping[str, str] | None,
    loss: LossSpec | None,
) -> dict[str, str]:
    """Which outputs have a gradient coming in, and under which name."""
    if seeds is not None:
        return dict(seeds)
    if loss is not None:
        return {}
    moving = reachable(graph, targets)
    return {name: gradient_name(name) for name, value in outputs.items() if value in moving and value.dtype in FLOATS}


def _append_loss(graph: ir.Graph, logits: ir.Value, loss: LossSpec, parts: Parts | None) -> tuple[ir.Value, ir.Value]:
    """The loss, and its gradient with respect to the logits, or to what the parts of an output layer multiply."""
    count = [label_count(logits)]
    labels = _add_input(graph, loss.labels, ir.DataType.INT64, count)
    weights = _add_input(graph, loss.weights, dtype_of(logits), count)
    if parts is not None:
        return append_split_cross_entropy(graph, parts.hidden, parts.weights, labels, weights)
    return append_cross_entropy(graph, logits, labels, weights)


def _find(graph: ir.Graph, name: str) -> ir.Value:
    for value in (*graph.inputs, *graph.initializers.values()):
        if value.name == name:
            return value
    raise UnsupportedModel(
        f"Expected an input or a weight named '{name}' to differentiate, found none in graph '{graph.name}'; "
        "name one of its inputs."
    )


def _output(outputs: Mapping[str, ir.Value], name: str) -> ir.Value:
    if name not in outputs:
        raise UnsupportedModel(f"Expected an output named '{name}', found {', '.join(outputs)}; name one of these.")
    return outputs[name]


def _refuse_taken(graph: ir.Graph, name: str) -> None:
    made = [value for node in graph for value in node.outputs]
    if any(value.name == name for value in (*graph.inputs, *graph.initializers.values(), *made)):
        raise UnsupportedModel(
            f"Expected the name '{name}' to be free in graph '{graph.name}', found it taken; "
            "choose another name for the incoming gradient or the loss."
        )


def _add_input(graph: ir.Graph, name: str, dtype: ir.DataType, dims: Sequence[int | str]) -> ir.Value:
    _refuse_taken(graph, name)
    value = ir.val(name, dtype, dims)
    graph.inputs.append(value)
    return value


def _publish(graph: ir.Graph, value: ir.Value, name: str, published: Sequence[ir.Value]) -> ir.Value:
    """`value` as an output called `name`; copied if it has a name that others rely on."""
    _refuse_taken(graph, name)
    if value.producer() is None or value in published or value in graph.outputs:
        value = Tape(graph).unary("Identity", value)
    value.name = name
    return value
