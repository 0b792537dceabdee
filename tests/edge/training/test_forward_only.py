"""Forward gradients on an exported encoder in int4, units dealt to boards, and sessions that go on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.runner import Runner
from edge.trainers.directions import size
from edge.trainers.interface import Arrays, Stepped
from edge.trainers.spry import Spry, deal, estimate, gradient
from edge.training.classes import Classes
from edge.training.cli import train
from edge.training.makers import units_of
from tests.edge.trainers.problems import flat, same_bytes
from tests.edge.training.conftest import WORDS
from tests.edge.training.test_scales import headed, texts
from wire.adapter import read_adapter
from wire.bundle import Bundle
from wire.kinds.lora import Lora
from wire.manifest import to_bytes
from wire.optimizers import Sgd
from wire.philox import key_of

KEY, ROWS, RANK, MANY = key_of("round", 3), 8, 2, 16


@pytest.fixture(scope="module")
def task(int4_bundle: Bundle) -> Classes:
    """Eight rows below a head in closed form, with factors of rank 2 that are not zero."""
    runner, rows, drawn = Runner(int4_bundle), texts(ROWS), np.random.default_rng(0)
    lora = {
        slot.name: Lora(
            drawn.normal(0, 0.3, (slot.features_in, RANK)).astype(np.float32),
            drawn.normal(0, 0.3, (RANK, slot.features_out)).astype(np.float32),
            1.0,
        )
        for slot in runner.manifest.slots
    }
    adapter = replace(headed(runner, rows[:3]), lora=lora)
    return Classes(runner, replace(adapter, heads={RANK: adapter.heads[0]}), rows)


def true(task: Classes, arrays: Arrays) -> Arrays:
    """The mean gradient of the backward graph."""
    sums = task.rows(range(ROWS)).gradients
    assert sums is not None
    (found,) = sums(arrays)
    return {name: found.by_input[name] / np.float32(ROWS) for name in arrays}


def cosine(one: Arrays, other: Arrays) -> float:
    """Of all arrays of `one` with the same ones of `other`."""
    a, b = flat(dict(one)), flat({name: other[name] for name in one})
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_forward_gradients_of_a_quantized_encoder_point_where_gradients_do(task: Classes) -> None:
    """With all units and with those dealt to one of two boards the mean cosine is sqrt(K / P), to 20 %."""
    arrays, loss = task.start(), task.rows(range(ROWS)).loss
    assert loss is not None
    slopes, units = true(task, arrays), units_of(task.runner.manifest, arrays)
    first, second = deal(list(units), 2)
    assert sorted([*first, *second]) == sorted(units)
    for names in (list(units), first):
        held = {name: units[name] for name in names}
        found = []
        for draw in range(16):
            spry = Spry(key_of("draw", draw), held, directions=MANY)
            pairs, _ = estimate(loss, arrays, held, spry.key, 0, range(MANY), 1e-2)
            found.append(cosine(gradient(pairs, spry, arrays), slopes))
        assert np.mean(found) == pytest.approx(np.sqrt(MANY / size(held, arrays)), rel=0.2)


def test_a_session_of_forward_gradients_goes_on_with_the_same_bytes(task: Classes) -> None:
    """Two steps and one after a restart are three steps, and only a board's own units are moved."""
    arrays = task.start()
    units = units_of(task.runner.manifest, arrays)
    own = {name: units[name] for name in deal(list(units), 2)[0]}
    spry = Spry(KEY, own, board=1, directions=2, optimizer=Sgd(0.05, momentum=0.9))

    def run(stepped: Stepped, steps: int) -> Stepped:
        for _ in range(steps):
            stepped = spry.step(stepped.arrays, stepped.state, task.rows(range(ROWS)))
        return stepped

    begun = Stepped(arrays, spry.begin(arrays), None)
    through, half = run(begun, 3), run(begun, 2)
    copied = Stepped({n: a.copy() for n, a in half.arrays.items()}, {n: a.copy() for n, a in half.state.items()}, None)
    again = run(copied, 1)
    assert same_bytes(again.arrays, through.arrays)
    assert same_bytes(again.state, through.state)
    changed = {name for name in arrays if not np.array_equal(arrays[name], through.arrays[name])}
    assert changed == {name for names in own.values() for name in names}


def test_a_bundle_without_backward_graphs_is_trained_by_forward_passes(
    int4_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What --mode train-forward leaves out is not asked for: factors come out that are not where they began."""
    folder = tmp_path / "bundle"
    shutil.copytree(int4_bundle.folder, folder)
    m = int4_bundle.manifest
    segments = tuple(replace(s, graphs=tuple(g for g in s.graphs if g.kind != "backward")) for s in m.segments)
    plan = replace(m.plan, mode="train-forward")
    (folder / "manifest.json").write_bytes(to_bytes(replace(m, segments=segments, plan=plan)))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": r.sample, "label": WORDS[r.label]}) for r in texts(30)))
    line = [str(folder), "--data", str(rows), "--out", str(tmp_path / "a.safetensors"), "--json", "--force"]
    assert train([*line, "--trainer", "spry", "--steps", "2", "--directions", "2", "--kept-back", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["trainer"] == "spry"
    read = read_adapter((tmp_path / "a.safetensors").read_bytes(), "f")
    assert any(lora.b.any() for lora in read.lora.values())
