"""Backward graphs of the onnx wheel's own node cases, against differences of the forward in float64."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.numpy_helper import to_array

from export.fold import freeze
from export.gradient.backward import build_backward
from export.gradient.path import NoGradientRule
from export.gradient.registry import find, operators
from export.gradient.sweep import FAMILIES
from export.sources.onnx_opset import to_common_opset
from tests.export.gradient.harness import Array, Feeds
from tests.export.oracle import Oracle

assert FAMILIES  # importing them registers their rules
FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
STEP, TOLERANCE = 1e-6, 1e-5
# newer than the common opset; the evaluator of the onnx package computes the operator, its body is differentiated
WRITTEN_OUT = {"Attention", "RotaryEmbedding", "Swish"}


@dataclass(frozen=True)
class Case:
    """A node case in float64: the model, the one to differentiate, its inputs, and which of them have a gradient."""

    model: ir.Model
    plain: ir.Model
    feeds: Feeds
    wanted: list[str]
    seeds: list[str]


@cache
def cases() -> dict[str, tuple[onnx.ModelProto, list[Array]]]:
    """Every case of one node whose operator has a rule or is written out, with its inputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel divides by zero on purpose while it makes them
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    made = {}
    for case in found:
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets:
            continue
        node = ir.from_proto(case.model).graph[0]
        if node.op_type in WRITTEN_OUT or find(node) is not None:
            given = [to_array(a) if isinstance(a, onnx.TensorProto) else np.asarray(a) for a in case.data_sets[0][0]]
            made[case.name] = (case.model, given)
    return made


def _opset(proto: onnx.ModelProto) -> bool:
    """Raise the opset to 16 where the operator is the same there; False where it is another."""
    version = proto.opset_import[0].version
    operator = proto.graph.node[0].op_type
    forms = {onnx.defs.get_schema(operator, number, "").since_version for number in (version, max(version, 16))}
    proto.opset_import[0].version = max(version, 16)
    return len(forms) == 1


def widened(model: onnx.ModelProto, arrays: list[Array]) -> Case | str:
    """The case in float64, away from kinks and ties; what has no gradient becomes a constant. Else why not."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    node = proto.graph.node[0]
    entry = find(ir.from_proto(model).graph[0])
    accepted = None if entry is None else entry.inputs
    if not _opset(proto):
        return "another operator before opset 16"
    rng = np.random.default_rng(5)
    proto.ir_version = min(proto.ir_version, 10)
    feeds: Feeds = {}
    inputs = list(proto.graph.input)
    del proto.graph.input[:]
    for info, array in zip(inputs, arrays, strict=True):
        if info.name not in node.input:
            continue
        kind, place = info.type.tensor_type, list(node.input).index(info.name)
        smooth = kind.elem_type in FLOATS and (accepted is None or place in accepted)
        wide = array.astype(np.float64) if kind.elem_type in FLOATS and node.op_type != "Resize" else array
        if not smooth:
            proto.graph.initializer.append(onnx.numpy_helper.from_array(wide, info.name))
            continue
        kind.elem_type = onnx.TensorProto.DOUBLE
        proto.graph.input.append(info)
        finite = np.nan_to_num(wide, nan=0.5, posinf=2.0, neginf=-2.0) if "Cast" in node.op_type else wide
        feeds[info.name] = finite + rng.uniform(0.5e-3, 1.5e-3, array.shape)
    _widen_types(proto)
    seeds = [o.name for o in proto.graph.output if o.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE]
    seeds = seeds if entry is None or entry.every_output else [name for name in seeds if name == node.output[0]]
    if not feeds or not seeds:
        return "nothing of floating type"
    return Case(ir.from_proto(proto), _plain(proto), feeds, list(feeds), seeds)


def _plain(proto: onnx.ModelProto) -> ir.Model:
    """In operators that have rules, with known shapes."""
    model = ir.from_proto(proto)
    if model.graph[0].op_type in WRITTEN_OUT:
        to_common_opset(model)
        return freeze(model, 1)
    return model


def _widen_types(proto: onnx.ModelProto) -> None:
    for info in proto.graph.output:
        if info.type.tensor_type.elem_type in FLOATS:
            info.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    if proto.graph.node[0].op_type == "GroupNormalization":  # else it computes in float32
        proto.graph.node[0].attribute.append(onnx.helper.make_attribute("stash_type", onnx.TensorProto.DOUBLE))
    for attribute in proto.graph.node[0].attribute:
        if attribute.name in {"to", "stash_type", "softmax_precision"} and attribute.i in FLOATS:
            attribute.i = onnx.TensorProto.DOUBLE


@cache
def judge(name: str) -> str:
    """Why a case is not judged, or `judged`; slopes along random directions agree with differences, or it fails."""
    if name in RUNTIME_DIFFERS:
        return "the runtime differs"
    case = widened(*cases()[name])
    if isinstance(case, str):
        return case
    forward = Oracle(case.model)
    values = forward(case.feeds)
    if not all(np.isfinite(values[o]).all() for o in case.seeds):
        return "not finite"
    rng = np.random.default_rng(0)
    seeds = {o: rng.normal(size=values[o].shape) for o in case.seeds}
    incoming = {f"grad.{o}": seed for o, seed in seeds.items()}
    try:
        model = build_backward(case.plain, wanted=case.wanted, seeds={o: f"grad.{o}" for o in seeds})
    except NoGradientRule as refusal:
        return "refused: " + str(refusal).split("no rule for ")[1].split(" (node")[0]
    found = Oracle(model)({**case.feeds, **incoming})
    for wanted in case.wanted:
        direction = rng.normal(size=case.feeds[wanted].shape)
        sides = []
        for step in (STEP, -STEP):
            moved = forward({**case.feeds, wanted: case.feeds[wanted] + step * direction})
            sides.append(sum(float(np.sum(seeds[o] * moved[o])) for o in seeds))
        expected = (sides[0] - sides[1]) / (2 * STEP)
        slope = float(np.sum(found[f"grad.{wanted}"] * direction))
        size = max(1.0, float(np.abs(found[f"grad.{wanted}"]).max(initial=0.0)))
        assert abs(slope - expected) <= TOLERANCE * size, f"{name}, {wanted}: {slope}, differences say {expected}"
    return "judged"


@pytest.mark.heavy
@pytest.mark.parametrize("operator", [*(name for name in operators() if "::" not in name), *sorted(WRITTEN_OUT)])
def test_cases_of_the_standard(operator: str) -> None:
    """On every case of an operator with a rule, slopes agree with central differences."""
    names = [name for name, (model, _) in cases().items() if model.graph.node[0].op_type == operator]
    found = Counter(judge(name) for name in names)
    assert found["judged"] or operator in WITHOUT_A_CASE, found


# SimplifiedLayerNormalization is onnxruntime's, though its domain is that of ONNX; Trilu has cases of integers only,
# GlobalLpPool none.
WITHOUT_A_CASE = {"GlobalLpPool", "SimplifiedLayerNormalization", "Trilu"}
# onnxruntime aligns corners by the whole size of the result, the standard by the size before it is rounded; boards run
# the first, and the rule asks it.
RUNTIME_DIFFERS = {f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic")}


@pytest.mark.heavy
def test_few_cases_are_left_out() -> None:
    """Hundreds are judged; what is not has no floating type, no finite value, or is refused by name."""
    found = Counter(judge(name) for name in cases())
    assert found["judged"] >= 600, found
    assert set(found) <= {"judged", *LEFT_OUT}, found


LEFT_OUT = {
    "nothing of floating type",
    "not finite",
    "another operator before opset 16",
    "the runtime differs",
    "refused: BatchNormalization (attribute training_mode is set)",
    "refused: ConvTranspose (its pads are uneven and chosen by the runtime)",
    "refused: Dropout (it drops values at random)",
    "refused: Einsum (a label stands twice in one input)",
    *(f"refused: GridSample (attribute mode is {mode})" for mode in ("cubic", "bicubic")),
    "refused: GridSample (attribute padding_mode is reflection)",
    "refused: MaxPool (attribute storage_order is set)",
    "refused: Resize (attribute coordinate_transformation_mode is tf_crop_and_resize)",
    *(f"refused: Resize (attribute keep_aspect_ratio_policy is not_{side})" for side in ("larger", "smaller")),
    *(f"refused: Scatter{k} (its reduction is {r})" for k in ("Elements", "ND") for r in ("mul", "max", "min")),
}
