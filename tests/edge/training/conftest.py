"""A small exported encoder whose scales can be moved, made once for all tests that train it."""

from __future__ import annotations

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from wire.bundle import Bundle, open_bundle

WORDS = ("cat", "dog", "tree")


@pytest.fixture(scope="session")
def int4_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A BERT of two blocks in int4 with LoRA slots, backward graphs and graphs whose scales can be moved."""
    pytest.importorskip("torch", reason="no exporter where there is no torch")
    from export.cli import export
    from tests.export import models

    folder = tmp_path_factory.mktemp("int4")
    (folder / "labels.txt").write_text("\n".join(WORDS))
    source = folder / "bert"
    source.mkdir()
    models.tiny_bert(source, layers=2)
    line = [str(source), "--task", "text-classification", "--labels", str(folder / "labels.txt"), "--sequence", "9"]
    line += ["--quant", "int4", "--scale-inputs", "--budget", "400MiB", "--out", str(folder / "out"), "--json"]
    assert export(line) == 0
    return open_bundle(folder / "out" / "board", None)
