"""Whether a front and what the tail runs behind its border compute what the whole model computes, there and back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from export.apart import apart
from export.build import learning
from export.chain import Chain, Values, gradients_of
from export.prepare import Prepared
from export.stage import Stage, write_pieces
from export.stage_checks import CHECK_RANK, all_checks
from export.stage_feeds import checking_values
from export.verify import SAME_BAR, check_same

LOSS = "loss"


def verify_front(prepared: Prepared, chain: Stage, tail: Stage, at: int) -> None:
    """Every check of a chain, and the chain against the tail alone; in a child process.

    Args:
        prepared: the model.
        chain: a front and the segments of the tail from number `at` on; gets the figures, `split_error` among them.
        tail: the whole model.
        at: see there.

    Raises:
        VerificationError: one of them fails.
    """

    def checks() -> dict[str, Any]:
        return {**all_checks(prepared, chain), "split_error": _split_error(prepared, chain, tail, at)}

    chain.checks = apart(checks)


def _split_error(prepared: Prepared, chain: Stage, tail: Stage, at: int) -> float:
    """The largest relative difference of outputs, loss and gradients, all weights in float32."""
    folder = chain.folder / "alone"
    own = len(chain.pieces) - (len(tail.pieces) - at)
    (front,) = write_pieces([replace(chain, pieces=chain.pieces[:own], links=chain.links[:own])], "exact", folder)
    (whole,) = write_pieces([tail], "exact", folder)
    values = checking_values(prepared, chain.key.micro_batch, CHECK_RANK)
    tables = prepared.taken(chain.key.micro_batch).exact()
    try:
        parted = Chain([*front, *whole[at:]], tables)
        expected = _run(Chain(whole, tables), values)
        return _compared(_run(parted, values), expected, tail)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(chain: Chain, values: Values) -> Values:
    return chain.backward(chain.forward(values))


def _compared(got: Values, expected: Values, tail: Stage) -> float:
    names = [name for group in learning(tail.pieces).values() for name in group]
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
