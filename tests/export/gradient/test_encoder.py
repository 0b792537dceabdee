from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional

from export.gradient.backward import LossSpec, build_backward
from tests.export.gradient import encoder
from tests.export.gradient.encoder import BATCH, CLASSES, LENGTH, WIDTH, Block
from tests.export.gradient.harness import Array, Feeds, run, session

ADAPTERS = ("query.A", "query.B", "query.scale", "value.A", "value.B", "value.scale")
WANTED = (*ADAPTERS, "x", "head.weight", "head.bias")
MASKS = {
    "no padding": [LENGTH, LENGTH, LENGTH],
    "right padding": [LENGTH, 4, LENGTH],
    "left padding": [LENGTH, -4, -1],  # whole rows of the attention are masked: NaN inside, guarded
}


@pytest.fixture(scope="module")
def block() -> Block:
    """The block as it is exported."""
    return Block(guarded=True).eval()


@pytest.fixture(scope="module")
def forward(block: Block) -> ir.Model:
    """Its export, with slots on the query and the value projection."""
    model = encoder.export(block)
    projections = [node.outputs[0].name or "" for node in model.graph if node.op_type == "MatMul"]
    for name, output, symbol in (("query", projections[0], "r_0"), ("value", projections[2], "r_1")):
        encoder.add_slot(model, output, name, symbol)
    return model


@pytest.fixture(scope="module")
def backward(forward: ir.Model) -> ir.Model:
    """Its backward graph with the loss, for adapters, input and head."""
    return build_backward(forward, wanted=WANTED, loss=LossSpec())


def _feeds(lengths: list[int], ranks: tuple[int, int] = (3, 5), seed: int = 5) -> Feeds:
    """Random input; a positive length pads right, a negative one left; the labels of two rows count."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((BATCH, LENGTH), dtype=bool)
    for row, length in zip(mask, lengths, strict=True):
        row[slice(length) if length > 0 else slice(length, None)] = True
    feeds = {"x": rng.normal(size=(BATCH, LENGTH, WIDTH)), "weights": np.array([0.5, 2.0, 1.0])}
    for name, rank in zip(("query", "value"), ranks, strict=True):
        feeds[f"{name}.A"] = 0.3 * rng.normal(size=(WIDTH, rank))  # more would saturate the softmax
        feeds[f"{name}.B"] = 0.3 * rng.normal(size=(rank, WIDTH))
        feeds[f"{name}.scale"] = np.array(rng.uniform(0.5, 2.0))
    rounded = {name: array.astype(np.float32) for name, array in feeds.items()}
    return {**rounded, "mask": mask, "labels": np.array([1, -100, 3])}


def _autograd(block: Block, feeds: Mapping[str, Array]) -> Feeds:
    """Loss, logits and all gradients by torch in float64."""
    double = Block(guarded=False).double().eval()
    double.load_state_dict({name: value.double() for name, value in block.state_dict().items()})
    adapters = {name: torch.tensor(feeds[name]).double().requires_grad_() for name in ADAPTERS}
    x = torch.tensor(feeds["x"]).double().requires_grad_()
    logits = double(x, torch.tensor(feeds["mask"]), adapters)
    each = functional.cross_entropy(logits, torch.tensor(feeds["labels"]), reduction="none", ignore_index=-100)
    loss = (each * torch.tensor(feeds["weights"])).sum()
    loss.backward()
    sources = {**adapters, "x": x, "head.weight": double.head.weight, "head.bias": double.head.bias}
    gradients = {f"grad.{name}": sources[name].grad for name in WANTED}
    assert all(gradient is not None for gradient in gradients.values())
    found = {"loss": loss.detach(), "logits": logits.detach(), **gradients}
    return {name: value.numpy() for name, value in found.items() if value is not None}


def _assert_close(found: Feeds, expected: Feeds, tolerance: float = 1e-5) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        scale = float(np.abs(array).max(initial=1e-30))
        np.testing.assert_allclose(found[name], array, rtol=0.0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("as_written", [True, False], ids=["as written", "defaults"])
@pytest.mark.parametrize("padding", MASKS)
def test_gradients_equal_autograd(block: Block, backward: ir.Model, padding: str, *, as_written: bool) -> None:
    """Loss, logits and every gradient of an exported block equal torch's in float64 to 1e-5 of the largest entry."""
    feeds = _feeds(MASKS[padding])
    found = run(session(backward, as_written=as_written), feeds)
    _assert_close(found, _autograd(block, feeds))


def test_the_guard_is_what_keeps_left_padding_finite(forward: ir.Model) -> None:
    """The export masks whole rows to NaN and guards them, so the finite gradients above are not for free."""
    softmax = next(node for node in forward.graph if node.op_type == "Softmax")
    model = forward.clone()
    model.graph.outputs.append(next(v for n in model.graph for v in n.outputs if v.name == softmax.outputs[0].name))
    found = run(session(model, as_written=True), _feeds(MASKS["left padding"]))
    assert np.isnan(found[softmax.outputs[0].name or ""]).any()


def test_backward_reuses_the_guard(backward: ir.Model) -> None:
    """No second guard is computed where the graph has one."""
    assert [node.op_type for node in backward.graph].count("IsNaN") == 1


def test_ranks_change_between_runs_of_one_session(block: Block, backward: ir.Model) -> None:
    """One session takes any ranks in turn, unequal in one run, also 0; equal feeds give equal bits again."""
    for as_written in (True, False):
        running = session(backward, as_written=as_written)
        results = []
        for ranks in ((8, 8), (16, 3), (0, 4), (0, 0), (8, 8)):
            feeds = _feeds(MASKS["right padding"], ranks)
            results.append(run(running, feeds))
            _assert_close(results[-1], _autograd(block, feeds))
        for name in results[0]:
            np.testing.assert_array_equal(results[0][name], results[-1][name], err_msg=name)


def test_nothing_fed_is_the_base_model(block: Block, backward: ir.Model) -> None:
    """Without adapters the graph gives the base model's loss, and gradients of rank 0."""
    feeds = {name: array for name, array in _feeds(MASKS["no padding"]).items() if name not in ADAPTERS}
    found = run(session(backward, as_written=True), feeds)
    with torch.no_grad():
        logits = block(torch.tensor(feeds["x"]), torch.tensor(feeds["mask"])).numpy()
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    assert found["grad.query.A"].shape == (WIDTH, 0)
    assert found["grad.value.B"].shape == (0, WIDTH)
    assert found["grad.query.scale"] == 0.0


def test_weights_are_read_in_place(forward: ir.Model, backward: ir.Model) -> None:
    """No node transposes a weight, no weight is copied, and only small constants are added."""
    weights = {name for name, value in forward.graph.initializers.items() if name not in ADAPTERS}
    for node in backward.graph:
        if node.op_type == "Transpose":
            assert node.inputs[0] is not None
            assert node.inputs[0].name not in weights
    added = {name: v for name, v in backward.graph.initializers.items() if name not in forward.graph.initializers}
    assert sum(v.const_value.nbytes for v in added.values() if v.const_value is not None) < 1000
    for name in weights & set(backward.graph.initializers):
        assert backward.graph.initializers[name].const_value is forward.graph.initializers[name].const_value


def test_every_value_has_a_shape_with_ranks_kept_as_symbols(backward: ir.Model) -> None:
    """The backward graph states the shape of all it computes; the only names in them are the slots' ranks."""
    symbols = set()
    for node in backward.graph:
        for value in node.outputs:
            assert value.shape is not None, value.name
            assert value.dtype is not None, value.name
            symbols |= {str(dim) for dim in value.shape if not isinstance(dim, int)}
    assert symbols == {"r_0", "r_1"}
    gradient = {value.name: value for value in backward.graph.outputs}["grad.value.A"]
    assert gradient.shape == ir.Shape([WIDTH, "r_1"])


def test_micro_batches_add_up(backward: ir.Model) -> None:
    """Gradients of two runs that count different rows sum to those of one run that counts both."""
    running = session(backward, as_written=True)
    feeds = _feeds(MASKS["right padding"])
    whole = run(running, {**feeds, "labels": np.array([1, 2, 3])})
    parts = [run(running, {**feeds, "labels": np.array(labels)}) for labels in ([1, -100, 3], [-100, 2, -100])]
    for name in ("loss", *(f"grad.{name}" for name in WANTED)):
        scale = float(np.abs(whole[name]).max())
        np.testing.assert_allclose(parts[0][name] + parts[1][name], whole[name], atol=2e-6 * max(1.0, scale))
    assert whole["logits"].shape == (BATCH, CLASSES)
