"""Whether a front and what the tail runs behind its border compute what the whole model computes, there and back."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from export.verify import DERIVATIVE_BAR, SAME_BAR, STEPS, central, check_same

LOSS = "loss"
DRAWS, DRAWN_STEP, DRAWN_SEED = 8, 1e-3, 24


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
        learns = chain.pieces[:count]
        if any(link.backward is not None for link in front):
            return {"split_error": _compared(_run(parted, values), expected, tail.pieces, tail)}
        error = _compared(_run(parted, values), expected, tail.pieces[at:], tail)
        entering = tail.pieces[at].segment.differentiable
        off = _difference_error(parted, count, values, expected, learns, entering)
        return {"split_error": error, "difference_error": off}
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
    parted: Chain, count: int, feeds: Values, expected: Values, pieces: Sequence[Piece], border: Sequence[str]
) -> float:
    """How far the derivative of a front's border, times the gradient that comes back, is off that of the loss.

    The direction is the gradient of the front's adapters at unit length, so that derivative is the gradient's length.
    Where none comes back to them it is what differences make of a few draws, and the loss is varied itself.

    Args:
        parted: the front and the tail.
        count: segments of the front.
        feeds: of a run.
        expected: what the whole model makes of them.
        pieces: of the front.
        border: what crosses, and has a gradient.

    Raises:
        VerificationError: by more than 1 %.
    """
    names = [name for group in learning(pieces).values() for name in group]
    back = {name: g.astype(np.float64) for name, g in gradients_of(expected, border).items()}
    look = _Look(parted.beside(parted.links[:count]), feeds, back)
    steep = {name: g.astype(np.float64) for name, g in gradients_of(expected, names).items()}
    known = bool(steep)
    steep = steep or look.drawn(names)
    length = math.sqrt(sum(float((g**2).sum()) for g in steep.values()))
    size = math.sqrt(sum(float((feeds[name].astype(np.float64) ** 2).sum()) for name in names))
    unit = {name: g / (length or 1.0) for name, g in steep.items()}
    true = [length if known else central(parted, feeds, unit, step * size) for step in STEPS]
    found = [look.along(unit, step * size) for step in STEPS]
    errors = [abs(a - b) / abs(b) for a, b in zip(found, true, strict=True) if b]
    error = min(errors, default=math.inf)
    if not error <= DERIVATIVE_BAR:
        what = "gradient of the whole model" if known else "derivative of the loss"
        raise VerificationError(
            f"expected differences of a front to be within {DERIVATIVE_BAR:.0%} of the {what}, found {error:.1%}; "
            f"report this model{', or export the front with --mode train' if known else ''}"
        )
    return error


@dataclass(frozen=True)
class _Look:
    """What a board sees: its front, and the gradient of what crosses."""

    front: Chain
    feeds: Values
    back: Values

    def along(self, direction: Values, step: float) -> float:
        """<g, h(x + e d) - h(x - e d)> / 2 e."""
        return (self._at(direction, step) - self._at(direction, -step)) / (2 * step)

    def drawn(self, names: Sequence[str]) -> Values:
        """The gradient of some inputs as some directions of signs tell it."""
        generator, sums = np.random.default_rng(DRAWN_SEED), {name: np.zeros(self.feeds[name].shape) for name in names}
        for _ in range(DRAWS):
            signs = {name: generator.choice((-1.0, 1.0), value.shape) for name, value in sums.items()}
            slope = self.along(signs, DRAWN_STEP)
            sums = {name: value + slope * signs[name] for name, value in sums.items()}
        return sums

    def _at(self, direction: Values, step: float) -> float:
        moved = {name: (self.feeds[name] + step * d).astype(np.float32) for name, d in direction.items()}
        made = self.front.forward({**self.feeds, **moved})
        return sum(float(np.vdot(g, made[name].astype(np.float64))) for name, g in self.back.items())
