"""Every workload that can be trained: loss and gradients of its bundles are torch's, under both runtimes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge.chain import Chain
from export import feeds
from export.prepare import Prepared, Wanted, prepare
from tests.conftest import ROOT
from tests.export.decoders import bundle
from tests.workloads.training import TRAINED, Arrays, Trained, by_torch
from wire.bundle import Bundle

BAR = 1e-5
LABELS = ("a", "b", "c")
RANK, SEED = 3, 41


@dataclass(frozen=True)
class Learning:
    """A workload's bundles of one and of two segments, what is fed to them, and what torch finds."""

    bundles: tuple[Bundle, ...]
    shared: Arrays
    fed: Arrays
    loss: float
    gradients: Arrays


@pytest.fixture(scope="module", params=TRAINED, ids=lambda trained: trained.workload.name)
def learning(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Learning]:
    """One workload with adapters and biases beside every layer; gone when its tests are done."""
    trained: Trained = request.param
    work = tmp_path_factory.mktemp(trained.workload.name)
    prepared = _prepared(trained, built, work)
    made = tuple(
        bundle(prepared, n, work / f"b{n}", mode="train", batch=trained.batch, labels=LABELS, verified=False)
        for n in (1, 2)
    )
    shared, fed = _drawn(prepared, trained.batch)
    yield Learning(made, shared, fed, *by_torch(trained, built, made[0].manifest, shared, fed))
    shutil.rmtree(work)


def _prepared(trained: Trained, built: Path, work: Path) -> Prepared:
    workload = trained.workload
    wanted = Wanted(
        workload.source(built),
        workload.task,
        len(LABELS),
        workload.sequence,
        targets=trained.targets,
        kinds=("lora", "bias"),
        serve_graph=False,
        sizes=workload.sizes,
    )
    return prepare(wanted, ("fp32",), ("train",), work / "source")


def _drawn(prepared: Prepared, batch: int) -> tuple[Arrays, Arrays]:
    """Adapters and a head that are not zero; real input, labels and weights."""
    assert prepared.head is not None
    shared = feeds.adapter(prepared.sites, RANK, SEED) | feeds.head(prepared.head, len(LABELS), SEED + 1)
    return shared, {**prepared.samples(batch, SEED + 2)[0], **feeds.targets(batch, len(LABELS), SEED + 3)}


def agree(learning: Learning, loss: float, gradients: Arrays) -> None:
    """Loss and every gradient are torch's, to the bar of each array's largest entry.

    Where that is below a thousandth of the largest of all (the bias of a key changes nothing), of that thousandth.
    """
    assert loss == pytest.approx(learning.loss, rel=BAR)
    assert gradients.keys() == learning.gradients.keys()
    sizes = {name: float(np.abs(wanted).max()) for name, wanted in learning.gradients.items()}
    for name, wanted in learning.gradients.items():
        assert gradients[name].shape == wanted.shape
        error = float(np.abs(gradients[name] - wanted).max()) / max(sizes[name], max(sizes.values()) / 1000)
        assert error <= BAR, f"{name} is {error:.1e} off"


@pytest.mark.heavy
def test_gradients_are_torchs(learning: Learning) -> None:
    """The installed runtime on one segment and on two."""
    for made in learning.bundles:
        sums = Chain(made).gradients([learning.fed], made.manifest.buckets[0].name, learning.shared)
        agree(learning, sums.loss, dict(sums.by_input))


FLOOR = """
import sys
import numpy as np
from pathlib import Path
from edge.chain import Chain
from wire.bundle import open_bundle
fed, shared = (dict(np.load(path)) for path in sys.argv[1:3])
for k, path in enumerate(sys.argv[4:]):
    bundle = open_bundle(Path(path), None)
    sums = Chain(bundle).gradients([fed], bundle.manifest.buckets[0].name, shared)
    np.savez(Path(sys.argv[3]) / f"{k}.npz", loss=sums.loss, **sums.by_input)
"""


@pytest.mark.heavy
def test_the_oldest_runtime_has_the_same_gradients(learning: Learning, tmp_path: Path, floor_python: Path) -> None:
    """The oldest runtime that boards have, on the same bundles."""
    fed, shared = tmp_path / "fed.npz", tmp_path / "shared.npz"
    np.savez(fed, **learning.fed)  # type: ignore[arg-type]  # the names are not its options
    np.savez(shared, **learning.shared)  # type: ignore[arg-type]  # the same
    folders = [made.folder for made in learning.bundles]
    subprocess.run([floor_python, "-c", FLOOR, fed, shared, tmp_path, *folders], cwd=ROOT, check=True, timeout=200)
    for k, _ in enumerate(folders):
        found = dict(np.load(tmp_path / f"{k}.npz"))
        agree(learning, float(found.pop("loss")), found)
