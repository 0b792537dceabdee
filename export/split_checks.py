"""Whether a front and what the tail runs behind its border compute what the whole model computes, there and back."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from console.errors import VerificationError
from export.apart import apart
from export.build import Piece, learning
from export.chain import Chain, Values, gradients_of
from export.prepare import Prepared
from export.stage import Stage, write_pieces
from export.stage_checks import CHECK_RANK, all_checks
from export.stage_feeds import checking_values
from export.verify import DERIVATIVE_BAR, SAME_BAR, STEPS, check_same

LOSS = "loss"


def verify_front(prepared: Prepared, chain: Stage, tail: Stage, at: int) -> None:
    """Every check of a chain, and the chain against the tail alone; in a child process.

    Args:
        prepared: the model.
        chain: a front and the segments of the tail from number `at` on; gets the figures, `split_error` among them, and
            `difference_error` of a front without backward graphs.
        tail: the whole model.
        at: see there.

    Raises:
        VerificationError: one of them fails.
    """

    def checks() -> dict[str, Any]:
        return {**all_checks(prepared, chain), **_alone(prepared, chain, tail, at)}

    chain.checks = apart(checks)


def _alone(prepared: Prepared, chain: Stage, tail: Stage, at: int) -> dict[str, float]:
    """The front with the tail against the tail alone, all weights in float32."""
    folder = chain.folder / "alone"
    count = len(chain.pieces) - (len(tail.pieces) - at)
    (front,) = write_pieces([replace(chain, pieces=chain.pieces[:count], links=chain.links[:count])], "exact", folder)
    (whole,) = write_pieces([tail], "exact", folder)
    values = checking_values(prepared, chain.key.micro_batch, CHECK_RANK)
    tables = prepared.taken(chain.key.micro_batch).exact()
    try:
        parted, expected = Chain([*front, *whole[at:]], tables), _run(Chain(whole, tables), values)
        learns, own = chain.pieces[:count], parted.beside(front)
        if any(link.backward is not None for link in front):
            return {"split_error": _compared(_run(parted, values), expected, tail.pieces, tail)}
        error = _compared(_run(parted, values), expected, tail.pieces[at:], tail)
        entering = tail.pieces[at].segment.differentiable
        return {"split_error": error, "difference_error": _difference_error(own, values, expected, learns, entering)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(chain: Chain, values: Values) -> Values:
    return chain.backward(chain.forward(values))


def _compared(got: Values, expected: Values, learns: Sequence[Piece], tail: Stage) -> float:
    """The largest relative difference of outputs, loss and the gradients of some segments."""
    names = [name for group in learning(learns).values() for name in group]
    outputs = [name for name in tail.pieces[-1].segment.leaving if name in expected]
    gradients, others = (gradients_of(values, names) for values in (expected, got))
    steepest = max((float(abs(value).max(initial=0)) for value in gradients.values()), default=1.0) or 1.0
    what = "of a front with its tail and of the whole model"
    errors = [check_same(got[name], expected[name], f"{name} {what}") for name in (*outputs, LOSS)]
    errors += [
        check_same(others[name], value, f"the gradient of {name} {what}", steepest, SAME_BAR)
        for name, value in gradients.items()
    ]
    return max(errors)


def _difference_error(
    front: Chain, feeds: Values, expected: Values, pieces: Sequence[Piece], border: Sequence[str]
) -> float:
    """How far the derivative of a front's border, times the gradient that comes back, is off that of the loss.

    The direction is the gradient of the front's adapters at unit length, so that derivative is the gradient's length.

    Raises:
        VerificationError: by more than 1 %.
    """
    names = [name for group in learning(pieces).values() for name in group]
    steep = {name: g.astype(np.float64) for name, g in gradients_of(expected, names).items()}
    length = math.sqrt(sum(float((g**2).sum()) for g in steep.values()))
    size = math.sqrt(sum(float((feeds[name].astype(np.float64) ** 2).sum()) for name in names))
    back = {name: g.astype(np.float64) for name, g in gradients_of(expected, border).items()}

    def along(step: float) -> float:
        moved = {name: (feeds[name] + step * g / length).astype(np.float32) for name, g in steep.items()}
        made = front.forward({**feeds, **moved})
        return sum(float(np.vdot(g, made[name].astype(np.float64))) for name, g in back.items())

    found = [(along(step * size) - along(-step * size)) / (2 * step * size) for step in STEPS]
    error = min(abs(one - length) / length for one in found) if length > 0 else math.inf
    if not error <= DERIVATIVE_BAR:
        raise VerificationError(
            f"expected differences of a front to be within {DERIVATIVE_BAR:.0%} of the gradient of the whole model, "
            f"found {error:.1%}; report this model, or export the front with --mode train"
        )
    return error
