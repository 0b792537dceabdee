"""Does the graph that optimum wrote compute what the torch model computes? A difference is refused.

optimum compares as well, but by an absolute bar, at the sizes that it traced with, and only warns. Here the sizes are
others, so that a size which the trace took for a constant is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import VerificationError
from export.difference import relative_difference
from export.sources.folder import first_line

BAR = 1e-4  # relative to the largest entry; both are float32, but kernels add in another order
OTHER_SIZES = {"batch_size": 3, "sequence_length": 11}  # than those of a trace


def check_export(model: Any, config: Any, graph: Path, outputs: Sequence[str], sizes: Mapping[str, int]) -> float:
    """Run both on the same drawn input; the largest relative difference of an output.

    Args:
        model: of transformers, in float32.
        config: optimum's own of this model, which draws inputs and knows the names of outputs.
        graph: what was exported.
        outputs: of the graph, to compare.
        sizes: that the graph was traced with.

    Raises:
        VerificationError: the graph does not run, or an output differs by more than 1e-4.
    """
    import onnxruntime as ort

    asked, expected = _asked(model, config, sizes)
    try:
        session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        known = [value.name for value in session.get_inputs()]
        given = _flat(config, config.generate_dummy_inputs_for_validation(asked, known))
        found = session.run(list(outputs), {name: given[name] for name in known})
    except Exception as error:  # onnxruntime's errors have no common class
        raise VerificationError(
            f"expected the graph that optimum exported to run, found {first_line(error)}; report this model"
        ) from error
    worst = 0.0
    for name, value in zip(outputs, found, strict=True):
        wanted = expected.get(name)
        difference = float("nan") if wanted is None else relative_difference(value, wanted)
        if not difference <= BAR:
            raise VerificationError(
                f"expected {name} of the graph that optimum exported and of {type(model).__name__} in torch to agree "
                f"within {BAR:g}, found {_told(difference, wanted, value)}; report this model, or choose another task"
            )
        worst = max(worst, difference)
    return worst


def _told(difference: float, wanted: NDArray[Any] | None, value: NDArray[Any]) -> str:
    if wanted is None:
        return "no such output in torch"
    if wanted.shape != value.shape:
        return f"the shapes {list(value.shape)} and {list(wanted.shape)}"
    return f"a relative difference of {difference:.2g}"


def _asked(model: Any, config: Any, sizes: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Drawn inputs, and what torch makes of them by the graph's names; of the traced sizes if it takes no others."""
    import torch

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # optimum draws from both
    for tried in ({**sizes, **OTHER_SIZES}, sizes):
        asked = config.generate_dummy_inputs(framework="pt", **tried)
        copy = config.rename_ambiguous_inputs(deepcopy(asked))  # some models write into their inputs
        try:
            with torch.inference_mode(), config.patch_model_for_export(model):
                made = model(**copy)
        except Exception:
            if tried is sizes:
                raise
            continue
        names = {**config.torch_to_onnx_output_map, "past_key_values": "present"}
        return asked, _flat(config, {names.get(name, name): value for name, value in made.items()})
    raise AssertionError("the last sizes return or raise")


def _flat(config: Any, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Tensors by name, as arrays; caches are lists of lists."""
    out: dict[str, NDArray[Any]] = {}
    for name, value in values.items():
        if isinstance(value, list | tuple):
            value = config.flatten_output_collection_property(name, value)  # noqa: PLW2901
        parts = value if isinstance(value, dict) else {name: value}
        out |= {key: part.detach().cpu().numpy() for key, part in parts.items()}
    return out
