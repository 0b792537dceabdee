"""A quantized chain beside the same chain in fp32: what it does to noise, and to decisions (`quant.variants`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import VerificationError
from export.build import Piece
from export.chain import Chain, Values
from export.classifier import classifier
from export.copies import copied, watch
from export.drawn import fitted
from export.formats.grid import Grid
from export.gate import Bench, Feed, entrance, measure, opened, rounds_activations
from export.prepare import Prepared
from export.report.variant import MOST_FLIPS, Decided, Noise, Turned, Variant, noise_words
from quant.geometry import Layer, geometry
from quant.variants import decisions, turn
from wire.record import plain, read_record

Array = NDArray[Any]

LOGITS = "logits"
TEXTS = (7, 8, 9, 10)  # seeds of what a model that generates is fed
MOST_ITEMS = 64  # of a sample that is given; fp32 and variant run each of them once
NOISY_ITEMS = 8  # with noise: fp32 and variant run each of them several times


@dataclass(frozen=True)
class Both:
    """The graphs that were made, and chains of their files: in fp32, and as they are shipped, with a grid of scales."""

    pieces: Sequence[Piece]
    exact: Chain
    variant: Chain
    grid: Grid


def check_variant(prepared: Prepared, both: Both, batch: int) -> dict[str, Any]:
    """What a manifest keeps: `noise_growth` where it could be measured, and all figures as `variant`.

    Raises:
        VerificationError: an output is not finite; with noise, the variant's where that of fp32 is.
    """
    feeds = items(prepared, batch)
    compared = _compared(prepared, both, feeds, batch)
    noisy = max(1, NOISY_ITEMS // (batch * len(feeds[0].runs)))
    noise, unmeasured = _noise(prepared, both, feeds[:noisy])
    found = Variant(noise, unmeasured, *compared)
    figures = {} if noise is None else {"noise_growth": noise.growth}
    return {**figures, "variant": _present(plain(found))}


def refuse_growth(checks: Mapping[str, Any], quant: str, name: str) -> None:
    """Hold what `check_variant` found against the bar.

    Args:
        checks: of a stage; one in fp32 has no variant.
        quant: what the variant is called.
        name: of the board.

    Raises:
        VerificationError: it amplifies noise too much.
    """
    noise = read_record(Variant, checks.get("variant", {}), f"checks for {name}").noise
    if noise is not None and not noise.passes:
        raise VerificationError(
            f"expected a variant for {name} that amplifies noise at most {noise.bar:g} times as much as fp32, "
            f"found that {noise_words(quant, noise)}; export with --quant fp32, or without --strict"
        )


def items(prepared: Prepared, batch: int) -> list[Feed]:
    """Real input in micro-batches: all rows of a sample that was given, or as many as the largest micro-batch has."""
    captured, graph = prepared.captured, prepared.whole(batch).graph
    pairs, states = [(p.input, p.output) for p in captured.states], prepared.states(batch)
    if captured.samples is not None:  # of a model that generates, drawn anew where no seed is given
        return [Feed(prepared.samples(batch, seed), pairs, states) for seed in TEXTS]
    runs = prepared.samples(batch, None)
    if captured.states:
        return [Feed(runs, pairs, states)]
    given = captured.sample or prepared.samples(prepared.batches[0], None)[0]
    rows = min((len(array) if array.ndim else 0 for array in given.values()), default=0)
    feeds = []
    for start in range(0, min(rows, MOST_ITEMS), batch):
        part = fitted({name: array[start : start + batch] for name, array in given.items()}, graph)
        feeds.append(Feed([{**runs[0], **part}], pairs, states, min(batch, rows - start)))
    return feeds or [Feed(runs, pairs, states)]


def _noise(prepared: Prepared, both: Both, feeds: Sequence[Feed]) -> tuple[Noise | None, str]:
    where = entrance(both.pieces, feeds[0].runs[0], both.exact.tables)
    if where is None:
        return None, "there is no float input, and no table in which an input is looked up"
    rounded = rounds_activations(both.pieces)
    with opened(both.exact, where) as exact, opened(both.variant, where) as variant:
        found = measure([Bench(exact, variant, where, feed) for feed in feeds], prepared.judged, rounded=rounded)
    return found, "" if found else "every output is zero"


def _compared(
    prepared: Prepared, both: Both, feeds: Sequence[Feed], batch: int
) -> tuple[Decided | None, Turned | None]:
    """Decisions where there are classes, else the output that turned most."""
    name = logits_of(prepared)
    if name is not None:
        return _decided(name, both, feeds, batch), None
    outputs = _outputs((both.exact, both.variant), feeds)
    turned = []
    for judged in prepared.judged:
        exact, variant = (_stacked(runs, feeds, judged, batch) for runs in outputs)
        if exact.any() and variant.any():
            angle = turn(exact, variant)
            turned.append(Turned(judged, angle.samples, angle.median, angle.most))
    return None, max(turned, key=lambda one: one.most, default=None)


def _decided(name: str, both: Both, feeds: Sequence[Feed], batch: int) -> Decided:
    last = classifier(both.pieces, name)
    with ExitStack() as copies:
        chains = [both.exact, both.variant]
        if last is not None and last.shape:
            seen = partial(watch, name=last.features, shape=last.shape)
            chains = [copies.enter_context(copied(chain, last.piece.segment.name, seen)) for chain in chains]
        outputs = _outputs(chains, feeds)
    exact, variant = (_flat(_stacked(runs, feeds, name, batch)) for runs in outputs)
    weights = (None, None) if last is None else last.weights(both.grid)
    found, place = decisions(exact, variant, *weights), None
    if last is not None and last.shape and weights[0] is not None and weights[1] is not None:
        features = [_flat(_stacked(runs, feeds, last.features, batch)) for runs in outputs]
        if len(features[0]) == len(exact):
            place = geometry(Layer(features[0], exact, weights[0]), Layer(features[1], variant, weights[1]))
    return Decided(
        name,
        found.samples,
        found.classes,
        len(found.flips),
        found.flips[:MOST_FLIPS],
        found.quantiles,
        found.exact_margins,
        found.variant_margins,
        found.angles,
        place,
    )


def _outputs(chains: Sequence[Chain], feeds: Sequence[Feed]) -> list[list[list[Values]]]:
    return [[chain.runs(feed.runs, feed.pairs, feed.states) for feed in feeds] for chain in chains]


def _flat(array: Array) -> Array:
    """[..., columns] as [n, columns]."""
    return array.reshape(-1, array.shape[-1])


def _stacked(runs: Sequence[Sequence[Values]], feeds: Sequence[Feed], name: str, batch: int) -> Array:
    """An output of all runs, a row per sample; rows that only fill a micro-batch are left out.

    Raises:
        VerificationError: it is not finite.
    """
    out = []
    for feed, values in zip(feeds, runs, strict=True):
        for run in values:
            array = run[name].reshape(1) if not run[name].ndim else run[name]
            by_row = len(array) == batch and feed.rows is not None
            out.append(array[: feed.rows] if by_row else array)
    stacked = np.concatenate(out)
    if not np.isfinite(stacked).all():
        raise VerificationError(
            f"expected numbers in {name} for all samples, found NaN or infinity; "
            "give other input with --sample FILE.npz, or export with --quant fp32"
        )
    return stacked


def logits_of(prepared: Prepared) -> str | None:
    """The output that has a column per class, where the model says so: by name, by its task, or by its labels."""
    if prepared.head is not None:
        return None  # its weights are not known before it is trained
    outputs = {str(v.name): v for v in prepared.frozen(prepared.batches[-1]).graph.outputs}
    columns = {name: outputs[name].shape[-1] for name in prepared.judged if outputs[name].shape}  # type: ignore[index]
    wide = [name for name, count in columns.items() if isinstance(count, int) and count > 1]
    labels = len(prepared.captured.labels)
    if LOGITS in wide:
        return LOGITS
    named = [name for name in wide if columns[name] == labels] if labels else []
    if "classification" in prepared.captured.task:
        named += wide
    return named[0] if named else None


def _present(value: Any) -> Any:
    """Without what is absent or empty, which a manifest leaves out."""
    if isinstance(value, dict):
        return {key: _present(one) for key, one in value.items() if one is not None and one not in ("", {})}
    return [_present(one) for one in value] if isinstance(value, list) else value
