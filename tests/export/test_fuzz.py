"""Changed bytes of valid files: a sentence or a correct result, never anything else."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.errors import EdgequiltError
from edge.steps import Steps
from export.cli import export
from export.cli_inspect import inspect
from export.golden import check_golden
from tests.export.fuzz import disturbed, misread, mutated, outcome
from tests.export.sources.files import WIDE, accumulator, branching, perceptron, write
from wire.bundle import open_bundle
from wire.envelope import Trust, detached
from wire.keys import read_private_key
from wire.manifest import parse_manifest, to_bytes

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=120)
MANY = settings(derandomize=True, database=None, deadline=None, max_examples=1200)
SEEDS = st.integers(0, (1 << 31) - 1)
MODELS = {"perceptron": perceptron(), "accumulator": accumulator(), "branching": branching()}
NAMES = st.sampled_from(sorted(MODELS))


def put(name: str, folder: Path, change: str, seed: int, *, external: bool) -> Path:
    """A changed file, with or without external data beside it."""
    path = write(MODELS[name], folder / "model.onnx", external=external)
    model = onnx.load(path, load_external_data=False)
    changed = mutated(path.read_bytes(), seed) if change == "bytes" else disturbed(model, seed).SerializeToString()
    path.write_bytes(changed)
    return path


def attempt(name: str, change: str, seed: int, *, external: bool) -> str:
    """What became of one changed file, and that nothing but the work folder was touched."""
    with TemporaryDirectory() as folder:
        path = put(name, Path(folder) / "source", change, seed, external=external)
        before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        found = outcome(path, Path(folder) / "work")
        assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
        return found


@FEW
@given(NAMES, st.sampled_from(["bytes", "fields"]), SEEDS, st.booleans())
def test_a_changed_onnx_file_is_refused_or_computes_the_same(name: str, change: str, seed: int, external: bool) -> None:
    """No traceback, no crash, no hang, no wrong result, whatever was changed."""
    attempt(name, change, seed, external=external)


@pytest.mark.heavy
@MANY
@given(NAMES, st.sampled_from(["bytes", "fields"]), SEEDS, st.booleans())
def test_many_changed_onnx_files(name: str, change: str, seed: int, external: bool) -> None:
    """The same, ten times as often."""
    attempt(name, change, seed, external=external)


def test_both_outcomes_are_reached() -> None:
    """The changes are neither all noticed nor all harmless: else the tests above would test one half only."""
    found = Counter(attempt("perceptron", "fields", seed, external=True) == "same" for seed in range(60))
    assert min(found[True], found[False]) >= 5


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model with state."""
    folder = tmp_path_factory.mktemp("fuzz")
    path = write(accumulator(), folder / "model.onnx")
    line = [str(path), "--state", "h=h_next", "--budget", "100MiB", "--out", str(folder / "out"), "--json"]
    assert export(line) == 0
    return folder / "out" / "board"


def sentence(work: Callable[[], object]) -> str:
    """The one line in which `work` is refused; empty if it is not."""
    try:
        work()
    except EdgequiltError as error:
        said = str(error)
    else:
        return ""
    assert said
    assert "\n" not in said
    return said


@FEW
@given(SEEDS, st.booleans())
def test_a_changed_manifest_is_refused_or_read(exported: Path, seed: int, as_bytes: bool) -> None:
    """Bytes and entries that are changed end in a sentence, or in a manifest that is written as it was read."""
    body = (exported / "manifest.json").read_bytes()
    changed = mutated(body, seed) if as_bytes else json.dumps(misread(json.loads(body), seed)).encode()
    if not sentence(lambda: parse_manifest(changed)):
        manifest = parse_manifest(changed)
        assert parse_manifest(to_bytes(manifest)) == manifest
    with TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(exported, Path(folder) / "bundle"))
        (copy / "manifest.json").write_bytes(changed)
        sentence(lambda: inspect([str(copy)]))


def put_to_work(bundle: Path, trust: Trust) -> None:
    """What `verify` and a board do with a bundle."""
    check_golden(open_bundle(bundle, trust))
    steps = Steps([open_bundle(bundle, trust)])
    steps.run({"x": np.ones((1, WIDE), np.float32)})


@settings(FEW, max_examples=400)
@given(SEEDS)
def test_a_changed_manifest_that_was_signed_is_refused_or_works(exported: Path, seed: int) -> None:
    """A publisher's own mistake: `verify` and the board's chain say it, or it makes no difference."""
    key = read_private_key(exported.parent / "keys" / "publisher.key")
    body = (exported / "manifest.json").read_bytes()
    changed = json.dumps(misread(json.loads(body), seed)).encode()
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for file in exported.iterdir():
            (copy / file.name).symlink_to(file)
        for name, content in (("manifest.json", changed), ("manifest.sig", detached(key, changed))):
            (copy / name).unlink()
            (copy / name).write_bytes(content)
        sentence(lambda: put_to_work(copy, Trust([key.public])))
