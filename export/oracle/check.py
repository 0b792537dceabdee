"""Every quantized node of a written graph against numpy: what its stored bytes say it must return.

The graph runs in onnxruntime with the inputs and outputs of these nodes fetched: under the options that it is shipped
with, and with optimizations off, since a value that is fetched is one that nothing is fused over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import VerificationError
from export.activations.oracle import check
from export.activations.products import products, roundings
from export.oracle.claims import Claim, claims
from export.oracle.expected import Sample
from export.oracle.fetched import fetch, groups
from wire.manifest import Options

Array = NDArray[Any]


@dataclass(frozen=True)
class NodeChecks:
    """What was found.

    Attributes:
        judged: number of nodes by kind.
        error: the largest difference from numpy relative to a node's largest output, by kind.
        unjudged: nodes that read stored integers and were not judged.
        steps: the largest difference of a product of integers, in steps of its output; see `export.activations.oracle`.
    """

    judged: dict[str, int] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    unjudged: tuple[str, ...] = ()
    steps: float = 0.0

    @property
    def count(self) -> int:
        """Nodes that were judged."""
        return sum(self.judged.values())

    @property
    def worst(self) -> float:
        """The largest error of any of them."""
        return max(self.error.values(), default=0.0)


def check_nodes(path: Path, feeds: Mapping[str, Array], options: Options, *, integers: bool = False) -> NodeChecks:
    """Hold every node of a quantized format against float64 arithmetic on the bytes of its weight.

    Args:
        path: a written graph; its weights lie beside it.
        feeds: every input by its name.
        options: what the graph is shipped with.
        integers: whether its activations may be integers, as `export.activations` makes them.

    Raises:
        VerificationError: a node returns something else; names node, weight and format.
    """
    graph = ir.load(path).graph
    found, others = claims(graph)
    judged = Counter(claim.kind for claim in found)
    of_integers = list(products(graph)) if integers else []
    steps = check(path, feeds, options.graph_optimization) if of_integers else 0.0
    judged.update(f"{product.node.op_type} of integers" for product in of_integers)
    judged_there = {*(product.node for product in of_integers), *(roundings(graph) if of_integers else ())}
    unjudged = [node for node in others if node not in judged_there]
    error: dict[str, float] = {}
    both = [options] if options.graph_optimization == "disable" else [options, _unoptimized(options)]
    for positions in groups([(*claim.needs, claim.output) for claim in found]):
        own = [found[position] for position in positions]
        names = list(dict.fromkeys(str(v.name) for claim in own for v in (*claim.needs, claim.output)))
        for chosen in both:
            values = fetch(path, names, feeds, chosen)
            for claim in own:
                sample = claim.judge([values[str(v.name)] for v in claim.needs], values[str(claim.output.name)])
                hold(claim, sample, path.name)
                error[claim.kind] = max(error.get(claim.kind, 0.0), sample.error())
    named = tuple(f"{node.op_type} {node.name or node.outputs[0].name}" for node in unjudged)
    return NodeChecks(dict(judged), error, named, steps)


def _unoptimized(options: Options) -> Options:
    return replace(options, graph_optimization="disable")


def hold(claim: Claim, sample: Sample, file: str) -> None:
    """Raises VerificationError if a node of a file returned anything that is out of its bound."""
    misses = sample.misses()
    if not misses.any():
        return
    what = f"{claim.node.op_type} {claim.node.name or claim.output.name} of {file}"
    weight = f"{claim.weight.name} ({claim.weight.format})"
    if not sample.found.any():
        raise VerificationError(
            f"expected {what} to read {weight}, found an output of zeros only, as runtimes return for formats that "
            "they have no kernel for; choose another format with --quant or another --block, or another onnxruntime"
        )
    worst = np.unravel_index(int(np.argmax(np.where(misses, _distance(sample), -1))), misses.shape)
    raise VerificationError(
        f"expected {what} over {weight} to return what its bytes say, {sample.expected[worst]:.6g} within "
        f"{sample.allowed[worst]:.2g}, found {sample.found[worst]:.6g}, and {int(misses.sum())} of {misses.size} "
        "judged entries are off; choose another format with --quant, and report this model"
    )


def _distance(sample: Sample) -> Array:
    return np.nan_to_num(np.abs(sample.found - sample.expected), nan=np.inf, posinf=np.inf)
