"""A decoder in every format, against transformers with weights that numpy rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from console.errors import BadData, UnsupportedModel, UsageError
from export.prepare import Wanted
from export.study.calls import calls_of, spread
from export.study.data import read_items
from export.study.study import Study
from export.study.subject import Subject, subject
from tests.export.decoders import tiny_gpt2, tiny_llama, tiny_qwen3, tiny_t5
from tests.export.study.studied import TEXTS, lines, row, studied

WINDOW, TEMPERATURE = 8, 0.5


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny GPT-2."""
    return tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def found(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Its study."""
    work = tmp_path_factory.mktemp("work")
    formats = "int8,int4,fp16"
    temperatures = (TEMPERATURE, 1.0)
    data = lines(work, *TEXTS)
    return studied(gpt2, data, work, formats, "text-generation", sequence=WINDOW, temperatures=temperatures)


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """The last axis in 255 steps of a scale of its own."""
    w = weight.numpy()
    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    return torch.from_numpy((np.rint(w / scale) * scale).astype(np.float32))


def next_logits(folder: Path, texts: Sequence[str] = TEXTS, *, int8: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 [tokens, vocabulary] of all windows by transformers, and the tokens that follow."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    if int8:
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                table = "wte" in name or "wpe" in name
                parameter.data = rounded(parameter.data) if table else rounded(parameter.data.T.contiguous()).T
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    logits, targets = [], []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        for window in (ids[at : at + WINDOW] for at in range(0, len(ids), WINDOW)):
            if len(window) > 1:
                with torch.no_grad():
                    logits.append(model(torch.tensor([window])).logits[0, :-1].double().numpy())
                targets += window[1:]
    return np.concatenate(logits), np.array(targets)


def test_the_original_has_the_perplexity_of_transformers(found: Study, gpt2: Path) -> None:
    """Over the same windows of the same tokens, exp of torch's own cross entropy."""
    logits, targets = next_logits(gpt2, int8=False)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
    assert found.tokens == len(targets)
    assert found.rows[0].quality.perplexity == pytest.approx(float(torch.exp(loss)), rel=1e-4)


def test_int8_is_what_rounded_weights_make_of_it(found: Study, gpt2: Path) -> None:
    """Perplexity, agreement and distance of int8 are those of transformers with weights rounded by numpy."""
    exact, targets = next_logits(gpt2, int8=False)
    logits, _ = next_logits(gpt2, int8=True)
    quality = row(found, "int8").quality
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
    assert quality.perplexity == pytest.approx(float(torch.exp(loss)), rel=1e-4)
    assert quality.agreement is not None
    assert quality.agreement.hits == int((logits.argmax(1) == exact.argmax(1)).sum())
    assert quality.agreement.of == len(targets)
    p, q = (torch.softmax(torch.from_numpy(z) / TEMPERATURE, dim=1) for z in (exact, logits))
    at = quality.temperatures[0]
    assert at.temperature == TEMPERATURE
    assert at.distance == pytest.approx(float((p - q).abs().sum(1).mean() / 2), rel=1e-3)
    divergence = torch.nn.functional.kl_div(q.log(), p, reduction="batchmean")
    assert at.divergence_nats == pytest.approx(float(divergence), rel=1e-3)
    assert at.same_token == pytest.approx(float((p * q).sum(1).mean()), rel=1e-4)


def test_bytes_and_sqnr_are_those_of_the_weights(found: Study, gpt2: Path) -> None:
    """fp32 has four bytes a number; int8's noise is that of weights rounded by numpy. So small a table is not tied."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(gpt2)
    weights = dict(model.named_parameters())
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    count = sum(weight.numel() for weight in weights.values())
    # beside the weights there are constants of the graph, a few numbers each
    assert 4 * count <= found.rows[0].stored_bytes <= 4 * count + 2048
    signal = noise = 0.0
    for name, weight in weights.items():
        if weight.dim() == 2:
            w = weight.data.T.contiguous() if ".h." in name else weight.data
            signal += float((w.double() ** 2).sum())
            noise += float(((w.double() - rounded(w).double()) ** 2).sum())
    assert row(found, "int8").sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.01)


def test_smaller_formats_are_smaller_and_worse(found: Study) -> None:
    """fp16, int8, int4 in this order: fewer bytes, less SQNR, farther from fp32; every call was timed."""
    ordered = [row(found, name) for name in ("fp32", "fp16", "int8", "int4")]
    sizes = [one.stored_bytes for one in ordered]
    assert sizes == sorted(sizes, reverse=True)
    losses = [one.sqnr_db or 0.0 for one in ordered[1:]]
    assert losses == sorted(losses, reverse=True)
    distances = [one.quality.temperatures[0].distance for one in ordered]
    assert distances == sorted(distances)
    assert distances[0] == 0.0
    assert all(list(one.times) == [1, 16, 128] for one in found.rows)
    assert all(timing.median_s > 0 for one in found.rows for timing in one.times.values())


@pytest.fixture(scope="module")
def model(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The tiny GPT-2, captured."""
    return subject(Wanted(str(gpt2), "text-generation", targets=""), WINDOW, tmp_path_factory.mktemp("model"))


def test_tokens_may_come_as_arrays(model: Subject, gpt2: Path, tmp_path: Path) -> None:
    """input_ids are cut into windows like those of a text."""
    from transformers import AutoTokenizer

    ids = np.array([AutoTokenizer.from_pretrained(gpt2)(TEXTS[0])["input_ids"]])
    np.savez(tmp_path / "ids.npz", input_ids=ids)
    frozen = model.frozen(1)
    sources = (lines(tmp_path, TEXTS[0]), tmp_path / "ids.npz")
    one, other = (calls_of(model, read_items(path), None, frozen) for path in sources)
    assert len(one) == -(-ids.size // WINDOW)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.targets, second.targets)
        for name, array in first.feeds.items():
            np.testing.assert_array_equal(array, second.feeds[name])


def test_long_texts_are_judged_at_even_distances(model: Subject, tmp_path: Path) -> None:
    """Of many windows as many as are wanted, the first among them; fewer are all."""
    calls = calls_of(model, read_items(lines(tmp_path, " ".join(TEXTS[:1] * 9))), None, model.frozen(1))
    assert len(calls) > 12
    chosen = spread(calls, 4)
    assert [id(one) for one in chosen] == [id(calls[len(calls) * i // 4]) for i in range(4)]
    assert [id(one) for one in spread(chosen, 5)] == [id(one) for one in chosen]


def test_data_without_a_next_token_is_refused(model: Subject, tmp_path: Path) -> None:
    """Of one token nothing follows; a decoder takes texts or input_ids alone."""
    frozen = model.frozen(1)
    np.savez(tmp_path / "a.npz", input_ids=np.array([[3], [4]]))
    with pytest.raises(BadData, match="a text of at least two tokens, so that there is a next one, found none"):
        calls_of(model, read_items(tmp_path / "a.npz"), None, frozen)
    np.savez(tmp_path / "b.npz", x=np.ones((2, 3), np.float32))
    with pytest.raises(BadData, match=r"or an .npz file with input_ids \[texts, tokens\] alone, .* found x \[2, 3\]"):
        calls_of(model, read_items(tmp_path / "b.npz"), None, frozen)


@pytest.mark.parametrize("sequence", [1, 65])
def test_a_sequence_that_cannot_be_is_refused(gpt2: Path, sequence: int, tmp_path: Path) -> None:
    """Two tokens at least, and no more than it has positions."""
    with pytest.raises(UsageError, match=f"--sequence of 2 to 64 tokens for this model, found {sequence}"):
        subject(Wanted(str(gpt2), "text-generation", targets=""), sequence, tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("build", [tiny_llama, tiny_qwen3])
def test_rotary_decoders_have_the_perplexity_of_transformers(build: Callable[[Path], Path], tmp_path: Path) -> None:
    """Whole texts with empty caches are what the model computes, and NF4 and FP4 run; tables get int8 instead."""
    folder = build(tmp_path / "model")
    data = lines(tmp_path, *TEXTS)
    found = studied(folder, data, tmp_path / "w", "nf4,fp4+nested", "text-generation", sequence=WINDOW)
    logits, targets = next_logits(folder, int8=False)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
    assert found.rows[0].quality.perplexity == pytest.approx(float(torch.exp(loss)), rel=1e-4)
    assert [one.reason for one in found.rows] == ["", "", ""]
    assert all(one.weights["int8"] for one in found.rows[1:])


@pytest.mark.heavy
def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    """It needs a text and its answer, which no data file here has."""
    with pytest.raises(UnsupportedModel, match="found the encoder-decoder t5; its encoder alone can be studied"):
        studied(tiny_t5(tmp_path / "t5"), lines(tmp_path, "a cat"), tmp_path / "w", "fp32", "text2text-generation")
