"""Does what was exported compute what the original computes? Every check raises; none warns.

* the chain of segments in float32 against the raw original, run by run; a head's pooling is done by numpy;
* the quantized chain against the float32 one: within a loss that is stated, and refused below a bar;
* every quantized graph against its float32 twin with weights dequantized by numpy;
* gradients against central differences of the forward chain.

Measured memory is held against the budget in `export.settle`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from console.errors import VerificationError
from export.chain import Chain, Graph, gradients_of, loss_of
from export.difference import relative_difference
from export.features import CALLED, MASK
from export.peak import ERRORS_ONLY

Array = NDArray[Any]
Values = Mapping[str, Array]

SAME_BAR = 1e-5
SUMMED, SUMMED_BAR = frozenset({"int8-blocks", "int4", "nf4", "fp4"}), 1e-4
COSINE_BAR = 0.98
ROUGH, ROUGH_BAR = frozenset({"int4", "nf4", "fp4", "int8-dynamic", "int8-static"}), 0.5
DERIVATIVE_BAR = 0.01
STEPS = (3e-4, 1e-3, 3e-3, 1e-2)  # of the central difference, relative to the length of what is varied


def original_runs(
    original: Path, runs: Sequence[Values], states: Sequence[tuple[str, str]], first: Values
) -> list[dict[str, Array]]:
    """What the untouched ONNX file computes, run by run, see `export.chain.Chain.runs`."""
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY  # exporters write shapes that hold for one size of pictures only
    # the products of our graphs: packed ones round differently, by more than the bar at tokens that only fill up
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(str(original), options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([value.name for value in found] for found in (session.get_inputs(), session.get_outputs()))
    out, held = [], dict(first)
    for feeds in runs:
        given = {**feeds, **held}
        values = dict(zip(outputs, session.run(outputs, {name: given[name] for name in inputs}), strict=True))
        held = {into: values[returned] for into, returned in states}
        out.append(values)
    return out


def pooled_features(hidden: Array, feeds: Values, axis: int | None = None) -> NDArray[np.float64]:
    """Features of a hidden output [batch, ...] by numpy: float64 [batch, D].

    Mean over everything but the first axis and that of the features, by default the last: of tokens over those that
    are marked. Divided by its length, times sqrt(D).
    """
    last = np.moveaxis(hidden.astype(np.float64), hidden.ndim - 1 if axis is None else axis, -1)
    tokens = last.reshape(len(last), -1, last.shape[-1])
    marked = feeds.get(MASK) if hidden.ndim == 3 and axis in (None, 2) else None
    mask = np.ones(tokens.shape[:2]) if marked is None else marked.astype(np.float64)
    pooled = (tokens * mask[..., None]).sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1.0)
    length = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return np.asarray(pooled / length * np.sqrt(tokens.shape[2]))


def check_outputs(got: Sequence[Values], expected: Sequence[Values]) -> float:
    """Every output that is expected of every run; the largest relative difference.

    Raises:
        VerificationError: the original's own output is not a number, or something differs by more than 1e-5.
    """
    worst = 0.0
    for ours, theirs in zip(got, expected, strict=True):
        for name, value in theirs.items():
            if not np.isfinite(value).all():
                raise VerificationError(
                    f"expected the original to compute numbers, found NaN or infinity in its output {name}; "
                    "give real input with --sample FILE.npz"
                )
            what = f"{name} of the chain of segments and of the original"
            worst = max(worst, check_same(ours[name], value, what))
    return worst


def check_same(got: Array, expected: Array, what: str, scale: float | None = None, bar: float = SAME_BAR) -> float:
    """The largest difference relative to `scale`, by default max(1, max|expected|).

    Raises:
        VerificationError: it is above the bar, or not a number.
    """
    error = relative_difference(got, expected, scale)
    if not error <= bar:
        raise VerificationError(
            f"expected {what} to agree within {bar:g}, found a relative difference of {error:.2g}; "
            "report this model, and do not use what was exported"
        )
    return error


def check_loss(quantized: Values, exact: Values, judged: Sequence[str], quant: str = "") -> dict[str, float]:
    """What quantization cost: least cosine and largest relative error of outputs [n, ...].

    A head's features are judged row by row, other outputs each as a whole. Who asks for a rough format by name gets it,
    with its cost reported, as long as the outputs are still those of the model.

    Raises:
        VerificationError: a cosine is below 0.98, or 0.5 where `quant` has few bits or rounds activations.
    """
    bar = ROUGH_BAR if quant in ROUGH else COSINE_BAR
    cosine, lost = 1.0, 0.0
    for name in judged:
        q, e = (values[name].astype(np.float64) for values in (quantized, exact))
        rows = e.shape[0] if name in CALLED else 1
        q, e = q.reshape(rows, -1), e.reshape(rows, -1)
        length = np.linalg.norm(q, axis=1) * np.linalg.norm(e, axis=1)
        if not length.all():
            continue
        cosine = min(cosine, float(((q * e).sum(axis=1) / length).min()))
        lost = max(lost, float(np.linalg.norm(q - e) / np.linalg.norm(e)))
    if not cosine >= bar:
        raise VerificationError(
            f"expected quantized outputs with a cosine of at least {bar} to the original's, "
            f"found {cosine:.4f}; export with --quant {'int8' if quant == 'auto' else 'auto'} or --quant fp32"
        )
    return {"feature_cosine": cosine, "feature_relative_error": lost}


def check_smaller(stored_bytes: int, plain_bytes: int, quant: str) -> None:
    """A quantized model must have become smaller.

    Raises:
        VerificationError: its weight files are as large as in float32.
    """
    if not stored_bytes < plain_bytes:
        raise VerificationError(
            f"expected weights in {quant} to take less than {plain_bytes} bytes as in float32, found {stored_bytes}; "
            "report this model, or export with --quant fp32"
        )


def check_twins(graph: Graph, twin: Graph, values: Values, what: str, formats: Collection[str] = ()) -> float:
    """A quantized graph against its float32 twin, output by output; gradients relative to the largest of them.

    Formats with products of their own sum in another order than float32 does. Where a model amplifies rounding, as
    at tokens that only fill up, that is more than 1e-5; each of their nodes is held to it alone (`export.oracle`).

    Raises:
        VerificationError: they differ by more than 1e-5, or 1e-4 where `formats` has such products.
    """
    bar = SUMMED_BAR if SUMMED.intersection(formats) else SAME_BAR
    got, expected = graph(values), twin(values)
    gradients = [value for name, value in expected.items() if name.startswith("grad.")]
    steepest = max((float(np.abs(g).max(initial=0)) for g in gradients), default=1.0) or 1.0
    worst = 0.0
    for name, value in expected.items():
        scale = steepest if name.startswith("grad.") else None
        worst = max(worst, check_same(got[name], value, f"{name} of {what}", scale, bar))
    return worst


def check_gradients(chain: Chain, feeds: Values, groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Gradients of a chain against central differences of its own forward graphs, one direction per group.

    The direction is the gradient of the group itself, at unit length: a derivative that is as large as it can
    be, and so least hurt by rounding.

    Args:
        chain: forward and backward graphs.
        feeds: model inputs, adapters, head, labels, weights.
        groups: names of adapter inputs by segment.

    Returns:
        The relative error of each group.

    Raises:
        VerificationError: one is above 1 %.
    """
    values = chain.backward(chain.forward(feeds))
    errors = {}
    for segment, names in groups.items():
        gradient = {name: g.astype(np.float64) for name, g in gradients_of(values, names).items()}
        length = float(np.sqrt(sum((g**2).sum() for g in gradient.values())))
        if len(gradient) < len(names) or not length > 0:
            raise VerificationError(f"expected gradients for every slot of {segment}, found {len(gradient)}, some zero")
        direction = {name: g / length for name, g in gradient.items()}
        size = float(np.sqrt(sum((feeds[name].astype(np.float64) ** 2).sum() for name in names)))
        found = [central(chain, feeds, direction, step * size) for step in STEPS]
        errors[segment] = min(abs(d - length) / length for d in found)
        if not errors[segment] <= DERIVATIVE_BAR:
            raise VerificationError(
                f"expected the gradient of {segment} within {DERIVATIVE_BAR:.0%} of central differences, found "
                f"{errors[segment]:.1%}; report this model, or use --mode train-forward"
            )
    return errors


def central(chain: Chain, feeds: Values, direction: Values, step: float) -> float:
    """The derivative of a chain's loss along a direction: (L(x + h d) - L(x - h d)) / 2 h, the losses in float64."""
    losses = []
    for sign in (1.0, -1.0):
        moved = {name: (feeds[name] + sign * step * d).astype(np.float32) for name, d in direction.items()}
        logits = chain.forward({**feeds, **moved})["logits"]
        losses.append(loss_of(logits.reshape(-1, logits.shape[-1]), feeds["labels"], feeds["weights"]))
    return (losses[0] - losses[1]) / (2 * step)
