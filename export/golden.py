"""Run a bundle's golden input and compare with its golden output."""

from __future__ import annotations

import numpy as np

from console.errors import BadData, VerificationError
from export.chain import chain_of
from export.difference import relative_difference
from export.write import read_golden
from wire.bundle import Bundle


def check_golden(bundle: Bundle) -> dict[str, float]:
    """The largest difference of each golden output, relative to max(1, max|expected|).

    Raises:
        BadData: the file holds no output, or one that the chain does not compute.
        VerificationError: a difference is above the bundle's tolerance.
    """
    golden = bundle.manifest.golden
    fed, fetched = read_golden(bundle.path(golden.file))
    zeros = {state.input: np.zeros(state.shape, state.dtype) for state in bundle.manifest.states}
    values = chain_of(bundle).forward({**zeros, **fed})
    if not fetched or not fetched.keys() <= values.keys():
        raise BadData(f"expected outputs of the chain in {golden.file}, found {sorted(fetched)}; export it again")
    errors = {}
    for name, expected in fetched.items():
        errors[name] = relative_difference(values[name], expected)
        if not errors[name] <= golden.relative_tolerance:
            raise VerificationError(
                f"expected {name} of {bundle.folder.name} within {golden.relative_tolerance:g} of its golden value, "
                f"found {errors[name]:.2g}; this runtime computes something else, do not use it"
            )
    return errors
