"""Inputs to check with: drawn from a seed, and real ones; adapters and a head that are not zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.gradient.backward import gradient_name
from export.head import HeadSite
from export.preprocess import Preprocessing
from export.slots import SlotSite

Values = dict[str, NDArray[Any]]

SENTENCES = (
    "The kettle is on and the window is open.",
    "Return the index of the first item that compares equal, or raise an error when there is none.",
    "A red bicycle leans against the wall of the old mill.",
    "Snow closed the pass for nine days, and nobody came up from the valley.",
    "Open the file for reading; the caller must close it.",
    "Two ferries a day cross to the island in summer, one in winter.",
    "Why?",
    "The quick brown fox jumps over the lazy dog, again and again, until it is tired of being an example.",
)


def seeded_text(batch: int, sequence: int, vocabulary: int, seed: int) -> Values:
    """Token ids drawn evenly, right-padded to unequal lengths: int64 [batch, sequence] each."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, sequence + 1, batch)
    lengths[0] = sequence
    mask = (np.arange(sequence) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(0, vocabulary, (batch, sequence), dtype=np.int64) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def real_text(batch: int, sequence: int, preprocess: Preprocessing) -> Values:
    """Sentences through the model's own tokenizer: int64 [batch, sequence] each."""
    return encoded([SENTENCES[i % len(SENTENCES)] for i in range(batch)], sequence, preprocess)


def encoded(texts: Sequence[str], sequence: int, preprocess: Preprocessing) -> Values:
    """Texts through the model's own tokenizer, cut or filled up on the right: int64 [texts, sequence] each."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(preprocess.files[0]))
    tokenizer.enable_truncation(sequence)
    tokenizer.enable_padding(length=sequence, pad_id=preprocess.parameters["pad_id"])
    made = tokenizer.encode_batch(list(texts))
    ids, mask = (np.array([getattr(e, part) for e in made], np.int64) for part in ("ids", "attention_mask"))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def vocabulary_of(preprocess: Preprocessing) -> int:
    """How many tokens the tokenizer knows."""
    from tokenizers import Tokenizer

    return int(Tokenizer.from_file(str(preprocess.files[0])).get_vocab_size(with_added_tokens=True))


def seeded_pictures(batch: int, parameters: Mapping[str, Any], seed: int) -> Values:
    """Noise, normalised as the model wants it: float32 [batch, channels, height, width]."""
    shape = (batch, parameters["channels"], parameters["height"], parameters["width"])
    return _normalised(np.random.default_rng(seed).uniform(0, 1, shape), parameters)


def drawn_pictures(batch: int, parameters: Mapping[str, Any]) -> Values:
    """Discs on a gradient, a different one per item, which is closer to a photograph than noise is."""
    height, width, channels = (int(parameters[name]) for name in ("height", "width", "channels"))
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    pictures = []
    for item in range(batch):
        centre = (item + 1) / (batch + 1)
        disc = ((x - centre) ** 2 + (y - 0.5) ** 2 < 0.09).astype(np.float64)
        pictures.append([np.clip((x + y * c) / 2 + disc * (c + 1) / channels, 0, 1) for c in range(channels)])
    return _normalised(np.array(pictures), parameters)


def _normalised(pixels: NDArray[np.float64], parameters: Mapping[str, Any]) -> Values:
    mean, std = (np.array(parameters[name]).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    return {"pixel_values": ((pixels - mean) / std).astype(np.float32)}


def inputs_for(preprocess: Preprocessing, batch: int, sequence: int | None, seed: int | None) -> Values:
    """Model inputs: drawn from a seed, or real ones where `seed` is None."""
    if preprocess.kind == "image":
        real = drawn_pictures(batch, preprocess.parameters)
        return real if seed is None else seeded_pictures(batch, preprocess.parameters, seed)
    length = sequence or int(preprocess.parameters["max_length"])
    if seed is None:
        return real_text(batch, length, preprocess)
    return seeded_text(batch, length, vocabulary_of(preprocess), seed)


def adapter(sites: Sequence[SlotSite], rank: int, seed: int) -> Values:
    """An adapter of some rank whose change is a tenth of what passes through: A [in, r], B [r, out], scale [].

    Changes of biases, [out], are a tenth as well.
    """
    rng = np.random.default_rng(seed)
    values: Values = {}
    for site in sites:
        if site.kind == "bias":
            values[site.bias] = (0.1 * rng.standard_normal(site.features_out)).astype(np.float32)
            continue
        a = rng.standard_normal((site.features_in, rank)) / np.sqrt(site.features_in)
        b = rng.standard_normal((rank, site.features_out)) / np.sqrt(rank)
        values[site.a], values[site.b] = a.astype(np.float32), (0.1 * b).astype(np.float32)
        values[site.scale] = np.asarray(1.5, np.float32)
    return values


def head(site: HeadSite, classes: int, seed: int) -> Values:
    """A head whose logits are of the order of one: weight [features, classes], bias [classes]."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((site.features, classes)) / np.sqrt(site.features)
    return {site.weight: weight.astype(np.float32), site.bias: rng.standard_normal(classes).astype(np.float32)}


def gradient(site: HeadSite, batch: int, seed: int) -> Values:
    """The gradient of a head's features, as it comes from who has the head: float32 [batch, features]."""
    drawn = np.random.default_rng(seed).standard_normal((batch, site.features))
    return {gradient_name(site.features_output): drawn.astype(np.float32)}


def next_tokens(ids: NDArray[np.int64], mask: NDArray[np.int64], seed: int) -> Values:
    """The token that follows each one, labels int64 [batch * sequence] (-100 where none does), and drawn weights."""
    labels = np.full(ids.shape, -100, np.int64)
    labels[:, :-1] = np.where(mask[:, 1:] * mask[:, :-1] > 0, ids[:, 1:], -100)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, labels.size)
    return {"labels": labels.ravel(), "weights": weights.astype(np.float32)}


def targets(batch: int, classes: int, seed: int) -> Values:
    """Labels int64 [batch], the last one masked where there are several, and weights float32 [batch]."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, batch, dtype=np.int64)
    if batch > 1:
        labels[-1] = -100
    return {"labels": labels, "weights": rng.uniform(0.5, 1.5, batch).astype(np.float32)}
