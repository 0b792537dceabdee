"""A net that looks at cells of its input where it says so itself, through an operator that has no gradient rule.

`layer.0` makes a picture and, through `layer.1`, places in it; a cubic GridSample reads the picture there; `layer.2`
and `layer.3` go on from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

SIDE, COUNT = 6, 18  # of the picture; places, two numbers each
WIDTHS = ((36, 36), (36, 36), (18, 36), (36, 36))


def weights(seed: int = 3) -> dict[str, np.ndarray]:
    """Of all layers: W [in, out] and b [out], float32."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for k, shape in enumerate(WIDTHS):
        drawn[f"layer.{k}.weight"] = generator.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
        drawn[f"layer.{k}.bias"] = generator.normal(0, 0.1, shape[1]).astype(np.float32)
    return drawn


def sampled(path: Path, mode: str = "cubic", *, affine: bool = False) -> Path:
    """The ONNX file: x [batch, 36] to `hidden` [batch, 36].

    With `affine` the places are those of an affine map of a grid of 3 by 6, whose numbers are six of `layer.1`.
    """

    def layer(k: int, given: str, made: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("MatMul", [given, f"layer.{k}.weight"], [f"p{k}"], name=f"/layer.{k}/MatMul"),
            helper.make_node("Add", [f"p{k}", f"layer.{k}.bias"], [f"s{k}"], name=f"/layer.{k}/Add"),
            helper.make_node("Tanh", [f"s{k}"], [made], name=f"/layer.{k}/Tanh"),
        ]

    def turned() -> list[onnx.NodeProto]:
        return [
            helper.make_node("Slice", ["y1", "zero", "six", "one"], ["numbers"], name="/turn/Slice"),
            helper.make_node("Reshape", ["numbers", "as.theta"], ["theta"], name="/turn/Reshape"),
            helper.make_node("Shape", ["theta"], ["batch"], name="/turn/Shape", start=0, end=1),
            helper.make_node("Concat", ["batch", "sides"], ["size"], name="/turn/Concat", axis=0),
            helper.make_node("AffineGrid", ["theta", "size"], ["turned"], name="/turn/AffineGrid"),
        ]

    def look(picture: str, places: str, made: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Reshape", [picture, "as.picture"], ["picture"], name="/look/Reshape"),
            helper.make_node("Reshape", [places, "as.places"], ["places"], name="/look/Reshape_1"),
            helper.make_node("GridSample", ["picture", "places"], ["seen"], name="/look/GridSample", mode=mode),
            helper.make_node("Reshape", ["seen", "as.row"], [made], name="/look/Reshape_2"),
        ]

    places = [*turned(), *look("y0", "turned", "row")] if affine else look("y0", "y1", "row")
    nodes = [*layer(0, "x", "y0"), *layer(1, "y0", "y1"), *places]
    nodes += [*layer(2, "row", "y2"), *layer(3, "y2", "hidden")]
    shapes = {"as.picture": [-1, 1, SIDE, SIDE], "as.places": [-1, 1, COUNT, 2], "as.row": [-1, COUNT]}
    if affine:
        shapes |= {"zero": [0], "six": [6], "one": [1], "as.theta": [-1, 2, 3], "sides": [1, 3, 6]}
    stored = [numpy_helper.from_array(value, name) for name, value in weights().items()]
    stored += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in shapes.items()]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 36]) for name in ("x", "hidden")]
    graph = helper.make_graph(nodes, "sampled", sides[:1], sides[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def torch_loss(
    x: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    given: Mapping[str, np.ndarray],
    mode: str = "bicubic",
    *,
    affine: bool = False,
) -> tuple[Any, dict[str, Any], Any]:
    """The weighted loss in float64 by torch, its leaves by name of graph input, and what GridSample made, [n, 18].

    Args:
        x: [n, 36].
        labels: [n]; -100 counts nothing.
        rows: weights of them.
        given: factors, scales and the head, by graph input.
        mode: of torch's grid_sample.
        affine: see `sampled`.
    """
    leaves = {name: torch.tensor(value.astype(np.float64), requires_grad=True) for name, value in given.items()}
    own = {name: torch.tensor(value.astype(np.float64)) for name, value in weights().items()}

    def layer(k: int, h: Any) -> Any:
        z, slot = h @ own[f"layer.{k}.weight"] + own[f"layer.{k}.bias"], f"slot.layer.{k}"
        if f"{slot}.A" in leaves:
            z = z + leaves[f"{slot}.scale"] * (h @ leaves[f"{slot}.A"] @ leaves[f"{slot}.B"])
        return torch.tanh(z)

    y0 = layer(0, torch.tensor(x.astype(np.float64)))
    y1 = layer(1, y0)
    places = y1.reshape(-1, 1, COUNT, 2)
    if affine:
        theta = y1[:, :6].reshape(-1, 2, 3)
        places = torch.nn.functional.affine_grid(theta, [len(x), 1, 3, 6], align_corners=False)
        places = places.reshape(-1, 1, COUNT, 2)
    seen = torch.nn.functional.grid_sample(
        y0.reshape(-1, 1, SIDE, SIDE), places, mode=mode, padding_mode="zeros", align_corners=False
    ).reshape(-1, COUNT)
    hidden = layer(3, layer(2, seen))
    features = torch.nn.functional.normalize(hidden, dim=1) * 36**0.5
    logits = features @ leaves["head.weight"] + leaves["head.bias"]
    each = torch.nn.functional.cross_entropy(logits, torch.as_tensor(labels), reduction="none", ignore_index=-100)
    return (each * torch.as_tensor(rows.astype(np.float64))).sum(), leaves, seen
