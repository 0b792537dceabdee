"""Whether a graph that begins with the gradient of a head's features goes back as the one with labels does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.chain import Chain
from export.gradient.backward import gradient_name
from export.head import HeadSite
from export.verify import SAME_BAR, SUMMED, SUMMED_BAR, check_same

Array = NDArray[Any]


def gradient_of_features(values: Mapping[str, Array], site: HeadSite) -> Array:
    """w (softmax(z) - onehot(y)) Wᵀ in float64 by numpy: [batch, features]; what a board with the head sends.

    Args:
        values: logits z [batch, classes], labels y [batch] (-100 counts nothing), weights w [batch], the head.
        site: of the head.
    """
    z, labels = values[site.logits_output].astype(np.float64), values["labels"]
    shares = np.exp(z - z.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    counts = labels >= 0
    shares[np.arange(len(labels)), np.where(counts, labels, 0)] -= 1
    found = (np.where(counts, values["weights"], 0.0)[:, None] * shares) @ values[site.weight].astype(np.float64).T
    return np.asarray(found, np.float32)


def check_returned(chain: Chain, given: Mapping[str, Array], site: HeadSite, formats: set[str]) -> dict[str, float]:
    """The largest difference between the gradients of both graphs, relative to the largest gradient.

    Args:
        chain: whose last link may have such a graph.
        given: everything that is fed.
        site: of the head.
        formats: of the weights.

    Returns:
        `returned_error`; nothing where there is no such graph.

    Raises:
        VerificationError: they differ.
    """
    link = chain.links[-1]
    if link.returned is None or link.backward is None:
        return {}
    values = chain.forward(given)
    expected = chain.graph(link.backward, link.backward_options)(values)
    gradient = {gradient_name(site.features_output): gradient_of_features(values, site)}
    found = chain.graph(link.returned, link.returned_options)({**values, **gradient})
    steepest = max(float(np.abs(expected[name]).max(initial=0)) for name in found) or 1.0
    bar = SUMMED_BAR if SUMMED.intersection(formats) else SAME_BAR
    what = "from labels and from the gradient of features"
    errors = [check_same(value, expected[n], f"{n} {what}", steepest, bar) for n, value in found.items()]
    return {"returned_error": max(errors)}
