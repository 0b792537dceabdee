from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional

from export.gradient.backward import LossSpec, build_backward
from tests.export.gradient.harness import Array, Feeds, assert_runtime_agrees, parse, run, session
from tests.export.oracle import Oracle

IGNORED = -100


def _loss_model(shape: tuple[int, ...], dtype: str = "double") -> ir.Model:
    """Logits that are the input itself, moved through an Identity; their gradient and the loss."""
    dims = ",".join(map(str, shape))
    forward = parse(f"(T[{dims}] x) => (T[{dims}] logits) {{ logits = Identity(x) }}", dtype)
    return build_backward(forward, wanted=["x"], loss=LossSpec())


def _draw(shape: tuple[int, ...], seed: int = 2) -> Feeds:
    rng = np.random.default_rng(seed)
    rows = int(np.prod(shape[:-1]))
    labels = rng.integers(0, shape[-1], rows)
    labels[1::3] = IGNORED
    return {"x": 3.0 * rng.normal(size=shape), "labels": labels, "weights": rng.uniform(0.1, 2.0, rows)}


def _torch(feeds: Feeds) -> tuple[Array, Array]:
    logits = torch.tensor(feeds["x"], requires_grad=True)
    flat = logits.reshape(-1, logits.shape[-1])
    each = functional.cross_entropy(flat, torch.tensor(feeds["labels"]), reduction="none", ignore_index=IGNORED)
    loss = (each * torch.tensor(feeds["weights"])).sum()
    loss.backward()
    assert logits.grad is not None
    return loss.detach().numpy(), logits.grad.numpy()


@pytest.mark.parametrize("shape", [(5, 4), (1, 2), (2, 3, 7), (4, 2000)], ids=str)
def test_loss_and_gradient_equal_torch(shape: tuple[int, ...]) -> None:
    """The weighted sum of cross entropies and its gradient equal torch's in float64, also for logits in rows of rows.

    With 2000 classes the label -100 would be a valid index, class 1900.
    """
    feeds = _draw(shape)
    found = Oracle(_loss_model(shape))(feeds)
    loss, gradient = _torch(feeds)
    assert list(found) == ["loss", "logits", "grad.x"]
    assert found["loss"].shape == ()
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-12)
    np.testing.assert_allclose(found["grad.x"], gradient, atol=1e-12)


def test_runtime_computes_the_same_loss() -> None:
    """onnxruntime agrees with numpy on loss and gradient, ignored labels and many classes included."""
    feeds = {name: a if name == "labels" else a.astype(np.float32) for name, a in _draw((4, 2000)).items()}
    assert_runtime_agrees(_loss_model((4, 2000), "float"), feeds)


def test_ignored_rows_change_nothing() -> None:
    """A row with label -100 adds nothing to the loss and gets a gradient of exactly zero, whatever it holds."""
    feeds = {name: a if name == "labels" else a.astype(np.float32) for name, a in _draw((5, 6)).items()}
    running = session(_loss_model((5, 6), "float"), as_written=True)
    expected = run(running, feeds)
    ignored = feeds["labels"] == IGNORED
    assert ignored.any()
    feeds["x"][ignored] = [-np.inf, 1.0, 2.0, 3.0, 4.0, 5.0]
    feeds["weights"][ignored] = np.nan
    found = run(running, feeds)
    assert found["loss"] == expected["loss"]
    np.testing.assert_array_equal(found["grad.x"][ignored], 0.0)
    np.testing.assert_array_equal(found["grad.x"], expected["grad.x"])


def test_all_rows_ignored() -> None:
    """A micro-batch in which no label counts has loss 0 and gradient 0, not NaN."""
    feeds = {**_draw((3, 4)), "labels": np.full(3, IGNORED)}
    found = Oracle(_loss_model((3, 4)))(feeds)
    assert found["loss"] == 0.0
    np.testing.assert_array_equal(found["grad.x"], np.zeros((3, 4)))


def test_no_row_by_class_matrix_of_labels_is_formed() -> None:
    """The loss of 2000 classes needs no one-hot matrix: nothing is as large as the logits but what softmax needs."""
    model = _loss_model((4, 2000))
    large = [node.op_type for node in model.graph if node.outputs[0].shape == ir.Shape([4, 2000])]
    assert sorted(large) == ["Exp", "Identity", "LogSoftmax", "Mul", "ScatterElements"]
