"""Scales of an exported encoder learn in forward passes, and what they learned travels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData
from edge.data.row import Row
from edge.model import Model
from edge.runner import Runner
from edge.train import TrainSettings
from edge.train import train as train_job
from edge.trainers.interface import Array, Scalars, Stepped
from edge.trainers.qzo import Qzo
from edge.training.cli import train
from edge.training.heads import closed_head
from edge.training.scales import ScaleTask, moved, small
from hub.making.model import model_of
from hub.serving.asked import Asked
from hub.serving.check import adapter_of
from tests.edge.trainers.problems import same_bytes
from tests.edge.training.conftest import WORDS
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import Bundle
from wire.inputs import check_adapter
from wire.kinds.lora import Lora
from wire.kinds.scales import ScaleFactors
from wire.messages import Begin, Sender
from wire.philox import key_of

KEY = key_of("round", 1)


def texts(count: int, seed: int = 0) -> list[Row]:
    """Sentences with one of the classes' words among others."""
    drawn = np.random.default_rng(seed)
    others = ("a", "the", "sat", "ran", "on", "under", "red", "blue", "mat")
    out = []
    for i in range(count):
        label = i % len(WORDS)
        words = [*drawn.choice(others, 4), WORDS[label]]
        drawn.shuffle(words)
        out.append(Row(" ".join(words), label))
    return out


def test_a_job_of_scales_passes_the_hubs_door(runner: Runner) -> None:
    """A train job by qzo sends pairs, smaller than its factors; the hub's door makes the same factors of them."""
    rows = texts(24)
    start = replace(headed(runner, rows[:12]), version="0" * 64)
    told = TrainSettings(steps=3, batch=8, learning_rate=0.01, kinds=("scales",), trainer="qzo", directions=4)

    made = train_job(runner, start, rows, told, job="r1-train-barn").adapter.scales

    assert made is not None
    assert made.replay is not None
    data = to_bytes(Adapter(start.model, start.version, scales=made))
    begin = Begin(Sender("barn", "x", 1), "", "adapter", "r1-train-barn", 1, "0" * 64, len(data), len(rows))
    found = adapter_of(data, begin, model_of(runner.manifest), Asked(4, kinds=("scales",))).scales
    assert found is not None
    assert same_bytes(found.factors, made.factors)
    assert any((f != 1).any() for f in found.factors.values())


@pytest.fixture
def runner(int4_bundle: Bundle) -> Iterator[Runner]:
    """The encoder, ready to run."""
    made = Runner(int4_bundle)
    yield made
    made.close()


def headed(runner: Runner, rows: list[Row]) -> Adapter:
    """An adapter with nothing but a head in closed form, of the first rows alone: there is something to gain."""
    found = runner.forward([row.sample for row in rows]).features
    head = closed_head(found, np.array([row.label for row in rows]), len(WORDS), recipes=("ridge",)).head
    return Adapter(runner.manifest.model.id, heads={0: head})


def task_of(runner: Runner, **asked: object) -> ScaleTask:
    """48 rows below a head of twelve of them."""
    rows = texts(48)
    return ScaleTask(runner, headed(runner, rows[:12]), rows, texts(12, 1), **asked)  # type: ignore[arg-type]  # options


def run(task: ScaleTask, qzo: Qzo, steps: int, begun: Stepped | None = None) -> Stepped:
    """Some steps on all rows."""
    start = task.start()
    stepped = begun or Stepped(start, qzo.begin(start), None)
    for _ in range(steps):
        stepped = qzo.step(stepped.arrays, stepped.state, task.rows(range(len(task))))
    return stepped


def test_scales_learn_and_travel_as_pairs(runner: Runner) -> None:
    """The loss falls; the file holds pairs, replays to the same bits, and a board that reads it serves with them."""
    task = task_of(runner)
    qzo = Qzo(KEY, task.units, rate=0.02, directions=4)
    stepped = run(task, qzo, 12)
    update = qzo.update(stepped.arrays, stepped.state)
    assert isinstance(update, Scalars)
    whole = task.adapter(stepped.arrays)
    file = to_bytes(small(whole, update))
    assert len(file) < len(to_bytes(whole))
    read = read_adapter(file, "f")
    assert read.scales is not None
    assert read.scales.replay is not None
    assert whole.scales is not None
    assert same_bytes(read.scales.factors, whole.scales.factors)
    loss = task.rows(range(len(task))).loss
    assert loss is not None
    assert loss(stepped.arrays) < 0.97 * loss(task.start())
    model = Model(runner)
    before = model.features("the cat sat on a mat")
    model.apply(read)
    assert np.abs(model.features("the cat sat on a mat") - before).max() > 1e-3


def test_a_restart_gives_the_same_bytes(runner: Runner) -> None:
    """Three steps and two after a restart from what a file holds are five steps."""
    task = task_of(runner, last=3)
    qzo = Qzo(KEY, task.units, directions=2)
    through = run(task, qzo, 5)
    half = run(task, qzo, 3)
    copied = Stepped({n: a.copy() for n, a in half.arrays.items()}, {n: a.copy() for n, a in half.state.items()}, None)
    again = run(task_of(runner, last=3), qzo, 2, copied)
    assert same_bytes(again.arrays, through.arrays)
    assert same_bytes(again.state, through.state)


def test_directions_point_along_the_gradient(runner: Runner) -> None:
    """The estimate's cosine with the gradient by differences entry by entry is that of K directions for P factors."""
    task = task_of(runner, last=2)
    start = task.start()
    loss = task.rows(range(16)).loss
    assert loss is not None
    true = {name: np.zeros_like(array) for name, array in start.items()}
    for name, array in start.items():
        for at in np.ndindex(array.shape):
            sides = []
            for side in (1e-2, -1e-2):
                there = dict(start) | {name: array.copy()}
                there[name][at] += np.float32(side)
                sides.append(loss(there))
            true[name][at] = (sides[0] - sides[1]) / 2e-2
    flat, many, found = np.concatenate([true[n].ravel() for n in sorted(true)]), 8, []
    for draw in range(24):
        qzo = Qzo(key_of("draw", draw), task.units, directions=many, rate=1e-3, clip=np.inf, largest=np.inf)
        after = qzo.step(start, qzo.begin(start), task.rows(range(16))).arrays
        moved_by = np.concatenate([(after[n] - start[n]).ravel() for n in sorted(true)])
        found.append(float(-moved_by @ flat / np.linalg.norm(moved_by) / np.linalg.norm(flat)))
    theory = np.sqrt(many / (many + flat.size - 1))
    assert abs(np.mean(found) / theory - 1) < 0.2


def test_what_is_asked_for_is_moved(runner: Runner) -> None:
    """All weights by default, a factor for each row; else those that match, the last ones, or one for every scale."""
    everything = task_of(runner).start()
    assert everything.keys() == {one.input for one in runner.manifest.scales}
    assert {array.shape[1] for array in everything.values()} == {1}
    weights = list(moved(runner.manifest))
    assert weights[0].startswith("encoder.layer.0.attention")
    assert weights[-1].startswith("encoder.layer.1.output")
    last = task_of(runner, last=2).start()
    assert last.keys() == {f"scales.{weight}" for weight in weights[-2:]}
    only = task_of(runner, layers=["*layer.1.output*"], each=True).start()
    assert {name: array.shape for name, array in only.items()} == {
        "scales.encoder.layer.1.output.dense.weight": (32, 2)
    }


def test_scales_go_on_where_an_adapter_left_off(runner: Runner) -> None:
    """Factors that an adapter brings are where training starts, and those that do not learn stay."""
    task = task_of(runner, last=2)
    arrays = {name: array * np.float32(1.25) for name, array in task.start().items()}
    adapter = task.adapter(arrays)
    rows = texts(6)
    again = ScaleTask(runner, adapter, rows, last=1)
    assert same_bytes(again.start(), dict(list(arrays.items())[-1:]))
    kept = again.adapter(again.start())
    assert kept.scales is not None
    assert adapter.scales is not None
    assert same_bytes(kept.scales.factors, adapter.scales.factors)


def test_boards_of_another_format_refuse_it(runner: Runner, int4_bundle: Bundle) -> None:
    """What was learned in int4 is refused where the weights are in int8, or rounded otherwise."""
    task = task_of(runner)
    adapter = task.adapter(task.start())
    m = int4_bundle.manifest
    for fmt, words in (
        ("int8", "were learned in int4, and here it is int8"),
        ("int4", "were learned on other int4 numbers"),
    ):
        other = replace(m, scales=tuple(replace(one, format=fmt, digest="0" * 64) for one in m.scales))
        with pytest.raises(BadData, match=words):
            Model(Runner(replace(int4_bundle, manifest=other))).apply(adapter)


def test_gradients_do_not_pass_moved_scales(runner: Runner) -> None:
    """Backward graphs know nothing of them, so they are refused instead of being wrong."""
    task = task_of(runner)
    adapter = replace(task.adapter(task.start()), lora=_factors(runner))
    with pytest.raises(BadData, match="without moved scales for gradients"):
        runner.gradients(texts(3), adapter)


def _factors(runner: Runner) -> dict[str, Lora]:
    drawn = np.random.default_rng(2)

    def some(*shape: int) -> Array:
        return drawn.normal(0, 0.1, shape).astype(np.float32)

    return {s.name: Lora(some(s.features_in, 2), some(2, s.features_out), 1.0) for s in runner.manifest.slots}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": []}, "expected rows to train on, found none"),
        ({"layers": ["nothing*"]}, "expected weights that match nothing"),
        ({"adapter": None}, "expected an adapter with a head to train scales below it"),
        ({"scales": ()}, "export with --scale-inputs"),
    ],
)
def test_what_cannot_be_trained_is_said(runner: Runner, change: dict[str, object], words: str) -> None:
    """Without rows, weights, a head or such graphs there is a sentence."""
    rows = texts(12)
    adapter = Adapter(runner.manifest.model.id) if "adapter" in change else headed(runner, rows)
    if "scales" in change:
        runner.bundle = replace(runner.bundle, manifest=replace(runner.manifest, scales=()))
    layers = change.get("layers", ("*",))
    with pytest.raises(BadData, match=words):
        ScaleTask(runner, adapter, rows if "train" not in change else [], layers=layers)  # type: ignore[arg-type]  # as given


def test_scales_beside_factors_of_slots(runner: Runner) -> None:
    """An adapter may bring both: the graph with moved scales takes slots too, and ones change nothing."""
    rows = texts(6)
    adapter = replace(headed(runner, rows), lora=_factors(runner))
    adapter = replace(adapter, heads={2: adapter.heads[0]})
    task = ScaleTask(runner, adapter, rows)
    samples = [row.sample for row in rows]
    plain, still = (runner.forward(samples, a).logits for a in (adapter, task.adapter(task.start())))
    np.testing.assert_allclose(still, plain, atol=1e-5)
    assert isinstance(task.adapter(task.start()).scales, ScaleFactors)


def test_the_command_trains_scales(int4_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a bundle and rows in a file to an adapter that holds a head and pairs, and fits the bundle."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": r.sample, "label": WORDS[r.label]}) for r in texts(30)))
    line = [str(int4_bundle.folder), "--data", str(rows), "--out", str(tmp_path / "a.safetensors"), "--json"]
    assert train([*line, "--trainer", "qzo", "--steps", "3", "--directions", "2", "--layers", "*layer.1*"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["trainer"], said["at"]) == ("qzo", 3)
    read = read_adapter((tmp_path / "a.safetensors").read_bytes(), "f")
    assert read.head is not None
    assert read.scales is not None
    assert all("layer.1" in weight for weight in read.scales.belongs)
    assert read.scales.replay is not None or not said["looks"]
    check_adapter(int4_bundle.manifest, read)
