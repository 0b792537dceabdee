"""Greedy decoding: the likeliest token, again and again, until one of them ends the answer.

A `cached` decoder takes a token and hands its caches from run to run as states, prompt and answer alike. A `prefix`
model takes all tokens so far, filled up on the right, and is asked for the row of the last one (docs/bundle.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError
from edge.steps import Steps
from wire.manifest import Generate

Array = NDArray[Any]
# an end token; as many tokens as were asked for; no room for another
Reason: TypeAlias = Literal["end", "length", "context"]


@dataclass(frozen=True)
class Answer:
    """Tokens that were generated, an end token included, and why there are no more."""

    tokens: tuple[int, ...]
    reason: Reason


def generate(
    steps: Steps,
    prompt: Sequence[int],
    most: int,
    feeds: Mapping[str, Array] | None = None,
    on_token: Callable[[int], None] = lambda token: None,
) -> Answer:
    """Answer a prompt.

    Args:
        steps: the chain; its states are reset.
        prompt: token ids; none for an encoder-decoder, whose source is in `feeds`.
        most: tokens to generate at most.
        feeds: what else the model reads in every run.
        on_token: told of every token as it comes.

    Raises:
        UsageError: the bundle does not generate, or the prompt is empty or longer than the context.
        BadData: an input is absent or does not fit.
    """
    record = steps.manifest.generate
    if record is None:
        raise UsageError("expected a bundle that generates text, found another; export with --task text-generation")
    known = [*record.start, *prompt]
    if not known:
        raise UsageError("expected a prompt of at least one token, found none; give --prompt")
    if len(known) > record.context:
        raise UsageError(
            f"expected a prompt of at most {record.context} tokens, found {len(known)}; shorten it, or export with a "
            "larger --context"
        )
    steps.reset()
    run = _cached if record.kind == "cached" else _prefix
    return _decode(record, known, most, lambda tokens, done: run(steps, record, tokens, done, feeds or {}), on_token)


def _decode(
    record: Generate,
    known: list[int],
    most: int,
    logits_after: Callable[[list[int], int], Array],
    on_token: Callable[[int], None],
) -> Answer:
    """`logits_after(tokens, done)` are those [vocabulary] after the last token; the first `done` were run before."""
    start, tokens = len(known), list(known)
    done = 0
    while len(tokens) - start < most:
        if len(tokens) > record.context:
            return Answer(tuple(tokens[start:]), "context")
        chosen = choose(record, logits_after(tokens, done), len(tokens), first=len(tokens) == start)
        done = len(tokens)
        tokens.append(chosen)
        on_token(chosen)
        if chosen in record.end:
            return Answer(tuple(tokens[start:]), "end")
    return Answer(tuple(tokens[start:]), "length")


def choose(record: Generate, logits: Array, index: int, *, first: bool) -> int:
    """The likeliest token of logits [vocabulary], the first of equals, among those that may be chosen.

    Args:
        record: what is forced, and what is never chosen.
        logits: of the next token.
        index: how many tokens are before it.
        first: whether it is the first of the answer.

    Raises:
        BadData: the logits are not numbers.
    """
    if str(index) in record.forced:
        return record.forced[str(index)]
    scores = logits.astype(np.float32)
    if np.isnan(scores).any():
        raise BadData("expected logits, found NaN; verify the bundle with edgequilt verify")
    banned = [t for t in (*record.never, *(record.never_first if first else ())) if 0 <= t < len(scores)]
    scores[banned] = -np.inf
    return int(scores.argmax())


def _cached(steps: Steps, record: Generate, tokens: list[int], done: int, feeds: Mapping[str, Array]) -> Array:
    """Run the tokens that were not run yet, one by one."""
    for at in range(done, len(tokens)):
        run: dict[str, Array] = {**feeds, record.tokens: np.array([[tokens[at]]], np.int64)}
        if record.mask is not None:
            run[record.mask] = (np.arange(record.context) >= record.context - 1 - at).astype(np.int64)[None]
        if record.positions is not None:
            run[record.positions] = np.array([[at]], np.int64)
        logits = steps.run(run, [record.logits] if at == len(tokens) - 1 else [])
    return np.asarray(logits[record.logits][0, -1])


def _prefix(steps: Steps, record: Generate, tokens: list[int], done: int, feeds: Mapping[str, Array]) -> Array:
    """Run all tokens, filled up on the right: no earlier one looks there."""
    rows = next((int(t.shape[0]) for t in steps.inputs if t.name == record.tokens), 1)  # all rows say the same
    filled = np.full((rows, record.context), record.pad, np.int64)
    filled[:, : len(tokens)] = tokens
    run: dict[str, Array] = {**feeds, record.tokens: filled}
    places = np.arange(record.context)
    if record.mask is not None:
        run[record.mask] = np.tile((places < len(tokens)).astype(np.int64), (rows, 1))
    if record.positions is not None:
        run[record.positions] = np.tile(np.minimum(places, len(tokens) - 1), (rows, 1))
    return np.asarray(steps.run(run, [record.logits])[record.logits][0, len(tokens) - 1])
