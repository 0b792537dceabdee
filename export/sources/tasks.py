"""A model with the head that it came with: sizes by name, and the names of its classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

# optimum's words for the dimensions that every model has
BATCH = ("batch_size", "text_batch_size", "image_batch_size", "audio_batch_size")
TOKENS = ("sequence_length", "text_sequence_length", "encoder_sequence_length")
SAMPLES = 16_000  # one second at the rate of every wav2vec2


def name_dims(graph: ir.Graph) -> None:
    """Call the dimensions of the inputs `batch` and `sequence`, and others as one word, in place.

    The length of a sound is `samples`, not a number of tokens.
    """
    for value in graph.inputs:
        if value.shape is None:
            continue
        is_sound = value.name == "input_values"
        value.shape = ir.Shape([d if isinstance(d, int) else _name(str(d.value), is_sound) for d in value.shape])


def _name(dim: str, is_sound: bool) -> str:
    if dim in BATCH:
        return "batch"
    if dim in TOKENS:
        return "samples" if is_sound else "sequence"
    return re.sub(r"\W+", "_", dim).strip("_")


def symbols(graph: ir.Graph, without: Sequence[str] = ("batch", "sequence")) -> list[str]:
    """The names of the inputs' dimensions other than some, in the order in which they come."""
    dims = [d.value for v in graph.inputs if v.shape is not None for d in v.shape if isinstance(d, ir.SymbolicDim)]
    return [str(d) for d in dict.fromkeys(dims) if d not in without]


def fix_pixels(graph: ir.Graph, parameters: dict[str, Any]) -> None:
    """Write channels and size into the picture's shape, in place: a model of pictures has one size."""
    for value in graph.inputs:
        if value.name == "pixel_values" and value.shape is not None and len(value.shape) == 4:
            sizes = (parameters["channels"], parameters["height"], parameters["width"])
            value.shape = ir.Shape([value.shape[0], *sizes])


def pixels_of(config: dict[str, Any]) -> dict[str, Any]:
    """Channels and size of the pictures of a model that reads other things as well."""
    vision = {**config, **(config.get("vision_config") or {})}
    size = vision.get("image_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return {"channels": vision.get("num_channels", 3), "height": height, "width": width}


def class_names(config: dict[str, Any], graph: ir.Graph) -> tuple[str, ...]:
    """The names of the classes in config.json, where the graph has logits; empty where none are named."""
    names = config.get("id2label")
    if not isinstance(names, dict) or "logits" not in {value.name for value in graph.outputs}:
        return ()
    try:
        return tuple(str(names[key]) for key in sorted(names, key=int))
    except ValueError:
        return ()
