"""Decoders and encoder-decoders from a folder to a chain of segments that generates; transformers is the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from edge.generate import generate
from edge.steps import Steps
from export.cut import crossing
from export.prepare import Prepared
from tests.export import decoders

PROMPT = [5, 17, 33, 8, 60]
MOST = 12


@pytest.fixture(scope="module", params=["gpt2", "llama", "qwen3"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    """A tiny decoder: its folder, and its graph with caches of a fixed length."""
    base = tmp_path_factory.mktemp(request.param)
    folder = decoders.BUILDERS[request.param](base / "model")
    return folder, decoders.prepared(folder, "text-generation", base / "work")


def by_transformers(folder: Path, prompt: list[int], most: int) -> list[int]:
    """What the original generates after a prompt."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=most)
    return [int(token) for token in found[0][len(prompt) :]]


@pytest.mark.parametrize("segments", [1, 3])
def test_a_chain_says_what_the_original_says(decoder: tuple[Path, Prepared], segments: int, tmp_path: Path) -> None:
    """The same tokens under greedy decoding, in one segment and in three that hold their own caches."""
    folder, prepared = decoder
    expected = by_transformers(folder, PROMPT, MOST)
    assert len(set(expected)) > 4
    bundle = decoders.bundle(prepared, segments, tmp_path / "bundle")
    steps = Steps([bundle])
    assert list(generate(steps, PROMPT, MOST).tokens) == expected
    assert list(generate(steps, PROMPT[:1], MOST).tokens) == by_transformers(folder, PROMPT[:1], MOST)
    steps.close()


def test_no_cache_leaves_its_layer(decoder: tuple[Path, Prepared]) -> None:
    """There are cuts between all layers, and a cache crosses those only that lie inside its own."""
    _, prepared = decoder
    graph, positions = prepared.frozen(1).graph, prepared.cost(1, "serve").positions
    nodes, layers = list(graph), set()
    for position, values in zip(positions, crossing(graph, positions), strict=True):
        node = nodes[position]  # the one that cuts a cache to its length is known by what it cuts
        layer = layer_of(str(node.name)) or layer_of(str(node.inputs[0].name if node.inputs[0] else ""))
        assert {layer_of(str(v.name)) for v in values if "present" in str(v.name)} <= {layer}
        layers.add(layer)
    assert {"0", "1", "2"} <= layers


def layer_of(name: str) -> str:
    """`2` of a node inside the third layer, or of its cache."""
    found = re.search(r"(?:layers|h|present)\.(\d+)", name)
    return found.group(1) if found else ""


def test_int8_weights_generate(decoder: tuple[Path, Prepared], tmp_path: Path) -> None:
    """A chain over int8 weights begins as the original does, and its bundle says what was lost."""
    folder, prepared = decoder
    bundle = decoders.bundle(prepared, 2, tmp_path / "bundle", "int8")
    tokens = generate(Steps([bundle]), PROMPT, MOST).tokens
    assert len(tokens) == MOST
    assert tokens[0] == by_transformers(folder, PROMPT, 1)[0]
    assert 0.99 < bundle.manifest.extra["verified"]["feature_cosine"] < 1


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    """A tiny encoder-decoder."""
    base = tmp_path_factory.mktemp("t5")
    folder = decoders.tiny_t5(base / "model")
    return folder, decoders.prepared(folder, "text2text-generation", base / "work", sequence=8)


@pytest.mark.parametrize("segments", [1, 3])
def test_an_encoder_decoder_says_what_the_original_says(
    t5: tuple[Path, Prepared], segments: int, tmp_path: Path
) -> None:
    """The same tokens from a padded source, encoder and decoder in different segments."""
    folder, prepared = t5
    bundle = decoders.bundle(prepared, segments, tmp_path / "bundle")
    source = {"input_ids": np.array([[*PROMPT, 2, 0, 0]]), "attention_mask": np.array([[1] * 6 + [0] * 2])}
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    with torch.no_grad():
        given = {name: torch.from_numpy(array) for name, array in source.items()}
        expected = model.generate(**given, do_sample=False, max_new_tokens=MOST)[0, 1:].tolist()
    assert len(set(expected)) > 3
    assert list(generate(Steps([bundle]), [], MOST, source).tokens) == expected
