from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from console.errors import VerificationError
from export.activations.dynamic import dynamic
from export.activations.integers import Window, multiply, quantize, quantize_dynamic
from export.activations.oracle import check, check_product
from export.activations.products import products
from export.activations.saturation import saturates
from export.activations.static import static
from tests.export.activations.nets import BATCH, cnn, drawn, mlp, work


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_dynamic_rounding_is_the_operator_s(shift: float) -> None:
    """Integers, scale and zero point are those of ONNX's reference of DynamicQuantizeLinear."""
    x = drawn(7, 9) + np.float32(shift)
    node = onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    q, s, z = ReferenceEvaluator(node).run(None, {"x": x})
    found = quantize_dynamic(x)
    assert (found.q == q).all()
    assert found.scale == s
    assert found.zero_point == z


def test_half_steps_are_ties_and_go_to_the_even() -> None:
    """Only what lies in the middle between two steps may go either way."""
    found = quantize(np.array([0.5, 1.5, 1.2, -0.5, 900.0], np.float32), np.float32(1), 10)
    assert found.q.tolist() == [10, 12, 11, 10, 255]
    assert found.tie.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    "window",
    [
        Window([2, 1], [1, 1], [1, 0, 2, 1]),
        Window([1, 1], [2, 1], [0, 1, 0, 1], groups=2),
        Window([1, 3], [1, 1], [0, 0, 0, 0], groups=4),
    ],
)
def test_sums_over_windows_are_torch_s(window: Window) -> None:
    """Convolutions of integers, with strides, pads, dilations and groups."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-255, 256, (2, 4, 9, 8)), rng.integers(-128, 128, (8, 4 // window.groups, 3, 2))
    top, left, bottom, right = window.pads
    wanted = torch.nn.functional.conv2d(
        torch.nn.functional.pad(torch.tensor(x, dtype=torch.float64), (left, right, top, bottom)),
        torch.tensor(w, dtype=torch.float64),
        stride=window.strides,
        dilation=window.dilations,
        groups=window.groups,
    )
    assert (multiply(x, w, window) == wanted.numpy()).all()


def test_another_weight_is_found(tmp_path: Path) -> None:
    """One integer of a weight that is one step aside makes the sums of its column wrong, and the node is named."""
    made, _ = dynamic(mlp(), ["b.w"], work(tmp_path))
    x = np.abs(drawn(BATCH, 16))
    product = next(iter(products(made.graph)))
    y = _computed(product.w, x, product.scale)
    names = {str(product.x.name): x, str(product.y.name): y}
    assert check_product(product, names) < 0.01
    product.w[3, 4] += 1
    with pytest.raises(VerificationError, match=r"expected /b/MatMul.* to compute .*, found .* .4 of 40 differ."):
        check_product(product, names)


def _computed(w: np.ndarray, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    q = quantize_dynamic(x)
    sums = (q.q.astype(np.int64) - q.zero_point) @ w
    return np.asarray(sums.astype(np.float32) * (q.scale * scale), np.float32)


def test_an_output_one_step_aside_is_found(tmp_path: Path) -> None:
    """A uint8 output that is no tie has to be exact."""
    model, runs = cnn(), [{"x": drawn(BATCH, 3, 8, 8)}]
    made, _ = static(model, ["c1.w"], runs, "minmax", work(tmp_path))
    product = next(iter(products(made.graph)))
    assert product.x_steps is not None
    assert product.y_steps is not None
    x = quantize(runs[0]["x"], *product.x_steps).q
    wanted = multiply(x.astype(np.int64) - product.x_steps[1], product.w, product.window)
    assert product.bias is not None
    wanted = wanted + product.bias.reshape(1, -1, 1, 1)
    step = np.float64(product.x_steps[0]) * product.scale.reshape(1, -1, 1, 1) / np.float64(product.y_steps[0])
    y = np.clip(np.rint(wanted * step) + product.y_steps[1], 0, 255).astype(np.uint8)
    values = {str(product.x.name): x, str(product.y.name): y}
    assert check_product(product, values) <= 1
    y[3, 2, 3, 4] ^= 1
    with pytest.raises(VerificationError, match="1 of 1024 differ"):
        check_product(product, values)


def test_a_graph_without_integers_is_refused(tmp_path: Path) -> None:
    """Nothing to judge is no pass, neither in memory nor in a file."""
    ir.save(mlp(), tmp_path / "float.onnx")
    for model in (mlp(), tmp_path / "float.onnx"):
        with pytest.raises(VerificationError, match="found none; quantize it first"):
            check(model, {"x": drawn(BATCH, 12)})


def test_saturation_is_a_matter_of_vnni() -> None:
    """On x86 the largest products are cut off exactly where the processor has no VNNI."""
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii")
    if "avx2" not in flags:
        pytest.skip("no x86 processor with AVX2")
    assert saturates() == ("vnni" not in flags)
