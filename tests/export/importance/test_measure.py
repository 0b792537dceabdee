"""Importance measured on rows: against torch's own gradients of the same weights, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from console.errors import BadData, UsageError
from export.importance.measure import BATCH, measure, slots_of
from export.importance.rows import batches_of
from export.prepare import Prepared, Wanted, prepare
from export.study.data import Items
from tests.export.causal import decoder, trainable
from tests.export.decoders import tiny_gpt2
from tests.export.models import WORDS
from wire.discriminant import solve
from wire.importance import fedpipe
from wire.importance.file import Importance
from wire.kinds.head import gather

LABELS = ("even", "odd")
ROWS = 10
Array = NDArray[Any]


def rows(count: int = ROWS) -> Items:
    """Sentences of drawn words, whose label is whether they have an even number of them."""
    rng = np.random.default_rng(4)
    lengths = rng.integers(2, 7, count)
    texts = tuple(" ".join(rng.choice(WORDS, length)) for length in lengths)
    labels = tuple(LABELS[length % 2] for length in lengths)
    return Items(texts, labels=labels, places=tuple(f"line {i}" for i in range(count)), total=count)


@pytest.fixture(scope="module")
def encoder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A tiny BERT with slots beside queries and the second half of a block, and a head."""
    wanted = Wanted(str(bert_folder), "feature-extraction", 2, 9, r"query|layer\.3\.output\.dense", ("lora", "bias"))
    return prepare(wanted, ("fp32",), ("train",), tmp_path_factory.mktemp("importance"))


def averages(gradients: Iterator[Mapping[str, Array]], weights: Mapping[str, Array]) -> dict[str, float]:
    """HSplitLoRA's average, by its formulas once more."""
    known: dict[str, float] = {}
    for t, found in enumerate(gradients):
        for name, gradient in found.items():
            s = float(np.abs(weights[name] * gradient).mean())
            before = known.get(name, 0.0)
            plain = 0.2 + 0.8 / (1 + t)
            share = plain + (1 - plain) * (abs(s - before) / (s + before)) / 2
            known[name] = share * s + (1 - share) * before
    return known


def test_an_encoder_under_a_head_is_measured_as_torch_does(
    encoder: Prepared, bert_folder: Path, tmp_path: Path
) -> None:
    """The average of every slot follows from autograd's gradients of the mean loss under the same head."""
    from transformers import AutoModel

    found = measure(encoder, rows(), LABELS, tmp_path, model="m")
    model = AutoModel.from_pretrained(bert_folder).double().eval()
    batches = batches_of(encoder, rows(), LABELS, BATCH)

    def features(feeds: Mapping[str, Array]) -> Any:
        hidden = model(**{n: torch.tensor(a) for n, a in feeds.items()}).last_hidden_state
        mask = torch.tensor(feeds["attention_mask"])[:, :, None].double()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return pooled / pooled.norm(dim=1, keepdim=True) * pooled.shape[1] ** 0.5

    with torch.no_grad():
        every = [features(b.feeds).numpy()[b.labels >= 0] for b in batches]
    classes = np.concatenate([b.labels[b.labels >= 0] for b in batches])
    head = solve(gather(np.concatenate(every).astype(np.float32), classes, 2))
    slots = {one.slot: model.get_submodule(one.slot).weight for one in slots_of(encoder)}

    def gradients() -> Iterator[Mapping[str, Array]]:
        for batch in batches:
            logits = features(batch.feeds) @ torch.tensor(head.weight).double() + torch.tensor(head.bias)
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(batch.labels), ignore_index=-100)
            made = torch.autograd.grad(loss, list(slots.values()))
            yield {name: g.numpy() for name, g in zip(slots, made, strict=True)}

    wanted = averages(gradients(), {name: w.detach().numpy() for name, w in slots.items()})
    assert len(wanted) == 5
    assert found.scores("hsplitlora").keys() == wanted.keys()
    for name, value in wanted.items():
        assert found.slots[name].hsplitlora == pytest.approx(value, rel=2e-3), name
    assert (found.source, found.stage, found.rows, found.model) == ("data", 3, ROWS, "m")
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_is_measured_by_its_next_tokens(tmp_path: Path) -> None:
    """Both scores of a decoder's slots follow from autograd's gradients of its own loss."""
    folder = tiny_gpt2(tmp_path / "gpt2")
    prepared = trainable(folder, tmp_path / "work")
    found = measure(prepared, rows(), (), tmp_path)
    model = decoder(folder)
    slots = {one.slot: model.get_submodule(one.slot).weight for one in slots_of(prepared)}
    of = {name: fedpipe.directions(w.detach().numpy()) for name, w in slots.items()}
    parts: dict[str, dict[str, fedpipe.Sensed]] = {name: {} for name in slots}

    def gradients() -> Iterator[Mapping[str, Array]]:
        for batch in batches_of(prepared, rows(), (), BATCH):
            logits = model(**{n: torch.tensor(a) for n, a in batch.feeds.items()}).logits.flatten(0, 1)
            counts = torch.tensor(batch.labels) >= 0
            loss = torch.nn.functional.cross_entropy(logits[counts], torch.tensor(batch.labels)[counts])
            made = torch.autograd.grad(loss, list(slots.values()))
            for name, g in zip(slots, made, strict=True):
                measured = fedpipe.measured(of[name], g.numpy())
                parts[name] = {k: fedpipe.sensed(parts[name].get(k), v) for k, v in measured.items()}
            yield {name: g.numpy() for name, g in zip(slots, made, strict=True)}

    wanted = averages(gradients(), {name: w.detach().numpy() for name, w in slots.items()})
    assert len(wanted) == 6
    for name, value in wanted.items():
        assert found.slots[name].hsplitlora == pytest.approx(value, rel=2e-3), name
        assert found.slots[name].fedpipe == pytest.approx(fedpipe.score(parts[name]), rel=5e-3), name


def test_portions_change_nothing(encoder: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of a few weights at a time are those of all at once."""
    whole, done = measure(encoder, rows(), LABELS, tmp_path), list[int]()
    monkeypatch.setattr("export.importance.measure.AT_ONCE_BYTES", 9000)
    parts: Importance = measure(encoder, rows(), LABELS, tmp_path, advance=done.append)
    assert done == [2, 2, 1]
    for name, one in whole.slots.items():
        assert parts.slots[name].hsplitlora == pytest.approx(one.hsplitlora, rel=1e-5)


def test_a_row_counts_once(encoder: Prepared) -> None:
    """The last batch is filled up with rows that count nothing."""
    counted = [batch.counted for batch in batches_of(encoder, rows(), LABELS, BATCH)]
    assert counted == [4, 4, 2]


def test_what_cannot_be_measured_is_said(encoder: Prepared, bert_folder: Path, tmp_path: Path) -> None:
    """Rows without labels, with others, of one class alone, and a model that does not learn are refused in words."""
    plain = rows()
    with pytest.raises(UsageError, match="rows with labels"):
        measure(encoder, Items(plain.texts, places=plain.places), LABELS, tmp_path)
    with pytest.raises(BadData, match=r"line 0: '(odd|even)'"):
        measure(encoder, plain, ("one", "two"), tmp_path)
    with pytest.raises(BadData, match="at least two classes"):
        measure(encoder, Items(plain.texts, labels=("odd",) * ROWS, places=plain.places), LABELS, tmp_path)
    serving = prepare(
        Wanted(str(bert_folder), "feature-extraction", sequence=9, targets="query"), ("fp32",), ("serve",), tmp_path
    )
    with pytest.raises(UsageError, match="expected a model that learns"):
        measure(serving, plain, LABELS, tmp_path)
