"""Running and differentiating a chain of segments."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import load
from edge.data import Row
from edge.runner import Runner
from edge.runtime import Session
from edge.train import TrainSettings, train
from tests.conftest import ROOT
from tests.edge.bundles import MODEL, make_bundle, make_weights
from tests.edge.oracle import Oracle, pixels
from wire.adamw import AdamW, Hyperparameters
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.inputs import inputs_of
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.manifest import Manifest

CHAINS = {"one segment": (2,), "two": (1, 1), "three": (1, 1, 1), "unequal": (2, 1)}


def random_adapter(manifest: Manifest, rank: int = 2, seed: int = 1, scale: float = 2.0) -> Adapter:
    """Factors and a head that are all different from zero."""
    generator = np.random.default_rng(seed)
    lora = {
        s.name: Lora(
            generator.normal(0, 0.3, (s.features_in, rank)).astype(np.float32),
            generator.normal(0, 0.3, (rank, s.features_out)).astype(np.float32),
            scale,
        )
        for s in manifest.slots_of("lora")
    }
    assert manifest.head is not None
    shape = (manifest.head.features, len(manifest.labels))
    head = Head(generator.normal(size=shape).astype(np.float32), generator.normal(size=shape[1]).astype(np.float32))
    biases = {s.name: generator.normal(0, 0.5, s.features_out).astype(np.float32) for s in manifest.slots_of("bias")}
    return Adapter(MODEL, "0" * 64, lora, biases, heads={0: head})


def pictures(count: int, seed: int = 2) -> list[Any]:
    """Random 4 x 4 grey pictures."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, 4, 4), dtype=np.uint8))


def rows(count: int, seed: int = 2) -> list[Row]:
    """Pictures with labels in turn."""
    return [Row(s, i % 3) for i, s in enumerate(pictures(count, seed))]


def runner(folder: Path, **bundle: Any) -> Runner:
    """A runner of a fresh bundle."""
    make_bundle(folder / "bundle", **bundle)
    return load(folder / "bundle").runner


@pytest.mark.parametrize("segments", CHAINS.values(), ids=CHAINS)
def test_a_chain_computes_what_the_whole_model_computes(tmp_path: Path, segments: tuple[int, ...]) -> None:
    """Features and logits of any chain of segments are those of the model in torch."""
    run = runner(tmp_path, segments=segments)
    adapter, samples = random_adapter(run.manifest), pictures(5)
    oracle = Oracle(make_weights(sum(segments)), adapter)

    found = run.forward(samples, adapter)

    np.testing.assert_allclose(found.features, oracle.features(pixels(samples)).detach(), atol=1e-6)
    np.testing.assert_allclose(found.logits, oracle.logits(pixels(samples)).detach(), atol=1e-5)


@pytest.mark.parametrize("segments", CHAINS.values(), ids=CHAINS)
def test_gradients_through_the_chain_are_torchs(tmp_path: Path, segments: tuple[int, ...]) -> None:
    """Loss and every gradient, summed over rows, equal torch's, whatever the cut, a short last batch included."""
    run = runner(tmp_path, segments=segments, micro_batch=2)
    adapter, given = random_adapter(run.manifest), rows(5)
    expected_loss, expected = Oracle(make_weights(sum(segments)), adapter).gradients(
        pixels([r.sample for r in given]), [r.label for r in given]
    )

    found = run.gradients(given, adapter)

    assert found.loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.by_input.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(found.by_input[name], gradient, atol=1e-5 * np.abs(gradient).max(), err_msg=name)


def test_segments_below_the_lowest_slot_have_no_backward_pass(tmp_path: Path) -> None:
    """With no slot in the first two segments the chain ends above them, and the other gradients are right."""
    run = runner(tmp_path, segments=(1, 1, 1), frozen=(0, 1))
    adapter, given = random_adapter(run.manifest), rows(4)
    _, expected = Oracle(make_weights(3), adapter).gradients(pixels([r.sample for r in given]), [0, 1, 2, 0])

    found = run.gradients(given, adapter)

    assert found.by_input.keys() == {"slot.layer.2.A", "slot.layer.2.B", "head.weight", "head.bias"}
    for name, gradient in expected.items():
        np.testing.assert_allclose(found.by_input[name], gradient, atol=1e-5)


@pytest.fixture(scope="module")
def small_and_large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, Runner]:
    """One model with micro-batch 3 and with micro-batch 9."""
    small, large = (runner(tmp_path_factory.mktemp("micro"), segments=(2,), micro_batch=n) for n in (3, 9))
    return small, large


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 9), seed=st.integers(0, 1000))
def test_the_micro_batch_changes_nothing(count: int, seed: int, small_and_large: tuple[Runner, Runner]) -> None:
    """The sum over micro-batches of 3, padded, is the sum over one batch of 9: padding rows have no effect."""
    small, large = small_and_large
    adapter, given = random_adapter(small.manifest, seed=seed), rows(count, seed)

    one, other = small.gradients(given, adapter), large.gradients(given, adapter)

    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    for name, gradient in one.by_input.items():
        np.testing.assert_allclose(gradient, other.by_input[name], atol=2e-6)


def test_many_rows_go_through_a_chain_in_windows(tmp_path: Path) -> None:
    """With room for the boundaries of one micro-batch at a time, the outputs are the same; none keeps its session."""
    make_bundle(tmp_path / "b", segments=(1, 1, 1))
    bundle = open_bundle(tmp_path / "b", None)
    narrow, wide = Runner(bundle, window_bytes=1), Runner(bundle)
    told: list[int] = []

    np.testing.assert_array_equal(
        narrow.forward(pictures(7), None, told.append).features, wide.forward(pictures(7)).features
    )
    assert told == [2, 2, 2, 1]


FLOOR = """
import json, sys
import numpy as np
from pathlib import Path
from edge.chain import Chain
from wire.bundle import open_bundle
feeds = {n: np.array(v["value"], v["dtype"]) for n, v in json.load(sys.stdin).items()}
chain = Chain(open_bundle(Path(sys.argv[1]), None))
rows = {n: feeds.pop(n) for n in ("pixel_values", "labels", "weights")}
found = chain.gradients([rows], "train", feeds)
print(json.dumps({"loss": found.loss, **{n: g.tolist() for n, g in found.by_input.items()}}))
"""


def test_the_oldest_runtime_computes_the_same(tmp_path: Path, floor_python: Path) -> None:
    """Under the oldest onnxruntime of the fleet the chain opens with the same options and gives the same gradients."""
    run = runner(tmp_path, segments=(1, 1, 1))
    adapter, given = random_adapter(run.manifest), rows(2)
    expected = run.gradients(given, adapter)
    x = pixels([r.sample for r in given]).reshape(2, 1, 4, 4).astype(np.float32)
    feeds = {"pixel_values": x, "labels": np.array([0, 1]), "weights": np.ones(2, np.float32)}
    feeds |= inputs_of(run.manifest, adapter)
    asked = {n: {"value": v.tolist(), "dtype": str(v.dtype)} for n, v in feeds.items()}

    done = subprocess.run(
        [str(floor_python), "-c", FLOOR, str(tmp_path / "bundle")],
        input=json.dumps(asked),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(done.stdout)
    assert found.pop("loss") == pytest.approx(expected.loss, rel=1e-5)
    assert found.keys() == expected.by_input.keys()
    for name, gradient in expected.by_input.items():
        np.testing.assert_allclose(np.array(found[name]), gradient, atol=1e-6)


def test_outputs_do_not_hold_on_to_the_session(tmp_path: Path) -> None:
    """Every array that a run returns owns its memory: a view would keep the whole arena of a closed session."""
    make_bundle(tmp_path / "b")
    bundle = open_bundle(tmp_path / "b", None)
    graph = bundle.manifest.segments[0].graphs[0]
    session = Session(bundle.path(graph.file), graph)

    found = session.run({"pixel_values": np.zeros((2, 1, 4, 4), np.float32)})

    assert all(value.flags.owndata for value in found.values())


def test_adapters_reach_the_graph_at_any_rank(tmp_path: Path) -> None:
    """Nothing fed is the base model, and so is rank 0; ranks may differ between slots; a fed adapter is seen."""
    run = runner(tmp_path)
    samples, base = pictures(3), run.forward(pictures(3)).features
    zero = random_adapter(run.manifest, rank=0)
    mixed = random_adapter(run.manifest, rank=4)
    mixed.lora["layer.0"] = mixed.lora["layer.0"].prefix(1)

    np.testing.assert_array_equal(run.forward(samples, zero).features, base)
    expected = Oracle(make_weights(2), mixed).features(pixels(samples)).detach().numpy()
    np.testing.assert_allclose(run.forward(samples, mixed).features, expected, atol=1e-6)
    assert np.abs(expected - base).max() > 0.01


def test_adamw_is_torchs() -> None:
    """Thirty steps with weight decay end where torch.optim.AdamW ends, to 1e-6."""
    generator = np.random.default_rng(3)
    start = generator.normal(size=(6, 4)).astype(np.float32)
    gradients = [
        generator.normal(size=(6, 4)).astype(np.float32) * 10.0 ** float(generator.integers(-4, 2)) for _ in range(30)
    ]
    ours = {"w": start.copy()}
    optimizer = AdamW(Hyperparameters(0.01, 0.9, 0.99, 1e-8, 0.1))
    theirs = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)

    for gradient in gradients:
        optimizer.step(ours, {"w": gradient})
        theirs.grad = torch.tensor(gradient)
        reference.step()

    np.testing.assert_allclose(ours["w"], theirs.detach().numpy(), atol=1e-6)


def test_training_is_torchs_training(tmp_path: Path) -> None:
    """Six steps on all rows end where torch's autograd and AdamW end, factor by factor; the start is not changed."""
    run = runner(tmp_path, segments=(1, 1))
    adapter, given = random_adapter(run.manifest), rows(6)
    before = {n: f.a.copy() for n, f in adapter.lora.items()}
    oracle = Oracle(make_weights(2), adapter)
    reference = torch.optim.AdamW(
        [f for n, f in oracle.factors.items() if n.startswith("slot.")], lr=0.01, betas=(0.9, 0.99), weight_decay=0.0
    )
    x, labels = pixels([r.sample for r in given]), torch.tensor([r.label for r in given])
    for _ in range(6):
        reference.zero_grad()
        torch.nn.functional.cross_entropy(oracle.logits(x), labels).backward()
        reference.step()

    done = train(run, adapter, given, TrainSettings(steps=6, batch=6, learning_rate=0.01))

    for name, lora in done.adapter.lora.items():
        np.testing.assert_allclose(lora.a, oracle.factors[f"slot.{name}.A"].detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(lora.b, oracle.factors[f"slot.{name}.B"].detach().numpy(), atol=1e-5)
        np.testing.assert_array_equal(adapter.lora[name].a, before[name])
    assert done.losses[-1] < done.losses[0]
    assert done.adapter.head is adapter.head


def test_a_seed_gives_one_training(tmp_path: Path) -> None:
    """The same seed gives the same bits, another seed other rows."""
    run = runner(tmp_path)
    adapter, given = random_adapter(run.manifest), rows(20)

    first, again, other = (
        train(run, adapter, given, TrainSettings(steps=3, batch=4, seed=s)).adapter.lora["layer.1"].b for s in (5, 5, 6)
    )

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
