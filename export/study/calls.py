"""Items of a data file as calls of a graph: tokens by the model's tokenizer, pictures as boards make them, arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import BadData, UnsupportedModel, UsageError
from export.drawn import fitted, zeros_of
from export.feeds import encoded
from export.gradient.dims import shape_of
from export.pictures import opened
from export.sample import check_sample
from export.sources.captured import Values
from export.study.data import Items
from export.study.subject import Subject

NOTHING = -1  # a target that counts nothing


@dataclass(frozen=True)
class Call:
    """What one run is fed.

    Attributes:
        feeds: by input.
        items: so many of the batch count; the others fill it up.
        targets: the class of each item [items], or the tokens that follow those of a text [tokens - 1];
            `NOTHING` where nobody knows.
    """

    feeds: Values
    items: int
    targets: NDArray[np.int64]


def calls_of(subject: Subject, items: Items, classes: NDArray[np.int64] | None, frozen: ir.Model) -> list[Call]:
    """Every item, in calls of the subject's batch; of a decoder every window of a text's tokens.

    Args:
        subject: the model.
        items: see `export.study.data`.
        classes: of each item, if they are known.
        frozen: the graph that is called.

    Raises:
        UsageError: texts for a model that reads none, pictures for one that takes none.
        BadData: arrays do not fit, or no text has two tokens.
        UnsupportedModel: its inputs do not have the items first.
    """
    if subject.is_decoder:
        return _windows(subject, items, frozen)
    feeds = _fed(subject, items)
    if not items.texts:
        check_sample(feeds, frozen.graph, tuple(pair.input for pair in subject.captured.states))
        _refuse_absent(subject, feeds, frozen)
        _refuse_others_first(subject, feeds, frozen)
    held = zeros_of(frozen.graph, [pair.input for pair in subject.captured.states])
    known = np.full(len(items), NOTHING, np.int64) if classes is None else classes
    types = {str(v.name): v.dtype.numpy() for v in frozen.graph.inputs if v.dtype is not None}
    calls = []
    for start in range(0, len(items), subject.batch):
        part = np.arange(start, min(start + subject.batch, len(items)))
        filled = np.resize(part, subject.batch)
        fed = {name: array[filled].astype(types[name]) for name, array in feeds.items() if name in types}
        calls.append(Call({**held, **fed}, len(part), known[part]))
    return calls


def spread(calls: Sequence[Call], limit: int) -> list[Call]:
    """At most `limit` of them at even distances: a long text is many windows."""
    return [calls[i * len(calls) // limit] for i in range(limit)] if len(calls) > limit else list(calls)


def of_size(subject: Subject, calls: Sequence[Call], frozen: ir.Model) -> Values:
    """Inputs of a call of another size, from the tokens or rows of the items, over and over."""
    if not subject.reads_text:
        rows = {name: np.concatenate([call.feeds[name] for call in calls]) for name in calls[0].feeds}
        return fitted(rows, frozen.graph)
    shape = next(shape_of(value) for value in frozen.graph.inputs if value.name == "input_ids")
    masks = [call.feeds.get("attention_mask", np.ones_like(call.feeds["input_ids"])) for call in calls]
    tokens = np.concatenate([call.feeds["input_ids"][mask > 0] for call, mask in zip(calls, masks, strict=True)])
    ids = np.resize(tokens, [int(d) for d in shape or () if isinstance(d, int)]).astype(np.int64)
    return text_feeds(ids, np.ones_like(ids), frozen)


def text_feeds(ids: NDArray[np.int64], mask: NDArray[np.int64], frozen: ir.Model) -> Values:
    """What a graph of texts reads: ids and mask int64 [batch, tokens], positions, and empty caches."""
    known = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy(),
    }
    read = {str(value.name) for value in frozen.graph.inputs}
    return {**zeros_of(frozen.graph, read - set(known)), **{n: array for n, array in known.items() if n in read}}


def _tokenizer(subject: Subject) -> Any:
    files = subject.captured.preprocess.files
    if not files:
        raise UsageError(
            f"expected --data as .npz with input_ids for {subject.captured.name}, which has no tokenizer, found texts"
        )
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(files[0]))


def _fed(subject: Subject, items: Items) -> Values:
    """Arrays of all items by input."""
    if items.pictures:
        return opened(items.pictures, subject.captured)
    if not items.texts:
        return items.arrays
    if subject.sequence is None or subject.captured.modality != "text":
        raise UsageError(
            f"expected --data as .npz with an array per input for {subject.captured.name}, which reads no text, "
            "found texts"
        )
    return encoded(items.texts, subject.sequence, subject.captured.preprocess)


def _refuse_absent(subject: Subject, given: Values, frozen: ir.Model) -> None:
    states = {pair.input for pair in subject.captured.states}
    wanted = [str(v.name) for v in frozen.graph.inputs if not v.is_initializer() and v.name not in states]
    absent = [name for name in wanted if name not in given]
    if absent:
        raise BadData(
            f"expected an array for every input of {subject.captured.name}, found none for "
            f"{', '.join(absent)}; add it to the .npz file"
        )


def _refuse_others_first(subject: Subject, given: Values, frozen: ir.Model) -> None:
    """Steps, nodes or whatever else is no item may not be the first axis."""
    shapes = {str(v.name): shape_of(v) for v in frozen.graph.inputs if v.name in given}
    others = [f"{name} {list(shape)}" for name, shape in shapes.items() if shape and shape[0] != subject.batch]
    if others:
        raise UnsupportedModel(
            f"expected a model whose inputs have their items first, found {', '.join(others)} in "
            f"{subject.captured.name}, which runs {subject.batch} at a time; export it with the batch as its first axis"
        )


def _windows(subject: Subject, items: Items, frozen: ir.Model) -> list[Call]:
    """Texts cut into windows; each begins anew, and what is left of a text is filled up on the right."""
    length = subject.sequence or 0
    texts = _token_rows(subject, items)
    windows = [ids[at : at + length] for ids in texts for at in range(0, len(ids), length)]
    windows = [window for window in windows if len(window) > 1]
    if not windows:
        raise BadData(
            "expected a text of at least two tokens, so that there is a next one, found none; give longer texts"
        )
    pad = int(subject.captured.preprocess.parameters.get("pad_id", 0))
    calls = []
    for window in windows:
        ids = np.full((1, length), pad, np.int64)
        ids[0, : len(window)] = window
        mask = (np.arange(length) < len(window)).astype(np.int64)[None]
        calls.append(Call(text_feeds(ids, mask, frozen), 1, np.asarray(window[1:], np.int64)))
    return calls


def _token_rows(subject: Subject, items: Items) -> list[list[int]]:
    if items.texts:
        return [encoding.ids for encoding in _tokenizer(subject).encode_batch(list(items.texts))]
    ids = items.arrays.get("input_ids")
    found = ", ".join(f"{n} {list(a.shape)}" for n, a in items.arrays.items()) or "pictures"
    if ids is None or ids.ndim != 2 or ids.dtype.kind not in "iu" or set(items.arrays) - {"input_ids"}:
        raise BadData(
            f"expected texts, or an .npz file with input_ids [texts, tokens] alone, for {subject.captured.name}, "
            f"found {found}"
        )
    return [[int(token) for token in row] for row in ids]
