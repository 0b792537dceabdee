"""Whether a bundle computes here what its exporter computed: its golden input and output."""

from __future__ import annotations

from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from console.errors import BadData, VerificationError
from edge.runner import Runner
from wire.bundle import Bundle
from wire.files import read_bytes


def prove(runner: Runner) -> float:
    """Run the golden input; the largest difference of an output, relative to max(1, its largest expected value).

    Raises:
        BadData: the file holds nothing that can be compared.
        VerificationError: a difference is above the bundle's tolerance.
    """
    manifest, golden = runner.manifest, runner.manifest.golden
    fed, wanted = golden_of(runner.bundle)
    states = {state.input: np.zeros(state.shape, state.dtype) for state in manifest.states}
    found = runner.chain.forward([{**states, **fed}], golden.bucket, {}, tuple(wanted))[0]
    worst = 0.0
    for name, expected in wanted.items():
        apart = _apart(found[name], expected)
        if not apart <= golden.relative_tolerance:
            raise VerificationError(
                f"expected {name} within {golden.relative_tolerance:g} of its golden value, found {apart:.2g}; this "
                f"board computes something else"
            )
        worst = max(worst, apart)
    return worst


def golden_of(bundle: Bundle) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The golden input and what it should give, by names.

    Raises:
        BadData: the file holds nothing that can be compared.
    """
    golden = bundle.manifest.golden
    try:
        tensors = safetensors.numpy.load(read_bytes(bundle.path(golden.file), "golden values"))
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadData(f"expected golden values in {golden.file}, found something else; export it again") from error
    fed = {name.removeprefix("feed/"): value for name, value in tensors.items() if name.startswith("feed/")}
    wanted = {name.removeprefix("fetch/"): value for name, value in tensors.items() if name.startswith("fetch/")}
    if not wanted:
        raise BadData(f"expected outputs in {golden.file}, found none; export it again")
    return fed, wanted


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """max |found - expected| / max(1, max |expected|) over what differs; NaN where that is no number."""
    if found.shape != expected.shape:
        return float("nan")
    f, e = found.astype(np.float64), expected.astype(np.float64)
    apart, scale = f != e, max(1.0, float(np.abs(e[np.isfinite(e)]).max(initial=0)))
    with np.errstate(invalid="ignore"):
        worst = float(np.abs(f[apart] - e[apart]).max(initial=0)) / scale
    return worst if np.isfinite(worst) else float("nan")
