"""A sample or arrays through a chain: labels, arrays, or the outputs of every step of a net with state."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import UsageError
from console.table import percent, table
from edge.arrays import Values, checked, in_batches, read_all, write_arrays
from edge.data.folder import PICTURES, SOUNDS
from edge.steps import Steps
from wire.manifest import Manifest


def put_through(steps: Steps, options: argparse.Namespace) -> int:
    """Run once, or step by step, and print labels where the model has classes, else arrays; the exit code."""
    values = _stepped(steps, options) if options.steps else _once(steps, options)
    if options.out is not None:
        write_arrays(options.out, values)
    found = [] if options.steps else _labels(steps.bundles[-1].manifest, values)
    if options.json:
        plain = {name: value.tolist() for name, value in values.items()}
        print(json.dumps({"labels": found, "outputs": plain}, ensure_ascii=False))
    elif found:
        for row in found:
            print(f"{row['label']}  {percent(row['score'])}")
    else:
        rows = [[n, v.dtype, "x".join(map(str, v.shape)) or "-", _first(v)] for n, v in values.items()]
        print(table(["output", "type", "shape", "first values"], rows))
    return 0


def _first(value: NDArray[Any]) -> str:
    return " ".join(f"{number:.5g}" for number in value.ravel()[:4])


def _once(steps: Steps, options: argparse.Namespace) -> Values:
    given = _samples(steps, options)

    def run(feeds: Values) -> Values:
        steps.reset()
        return steps.run(feeds)

    return in_batches(run, checked(given, steps.inputs), steps.inputs)


def _stepped(steps: Steps, options: argparse.Namespace) -> Values:
    """Every step in order; an array without the axis of steps is the same in each.

    Raises:
        UsageError: no array has that axis, or they have unequal numbers of steps.
    """
    given = checked(read_all(options.input), steps.inputs, stepped=True)
    ranks = {tensor.name: len(tensor.shape) for tensor in steps.inputs}
    counts = {len(array) for name, array in given.items() if array.ndim > ranks[name]}
    if len(counts) != 1:
        found = ", ".join(map(str, sorted(counts))) or "none"
        raise UsageError(f"expected one number of steps in front of the arrays, found {found}; mend --input")
    runs = [
        steps.run({name: array[at] if array.ndim > ranks[name] else array for name, array in given.items()})
        for at in range(counts.pop())
    ]
    return {name: np.stack([run[name] for run in runs]) for name in steps.outputs} if runs else {}


def _samples(steps: Steps, options: argparse.Namespace) -> Values:
    """Inputs of the first stage from a text, pictures, sounds, or arrays.

    Raises:
        UsageError: the bundle takes something else.
    """
    manifest = steps.manifest
    kind = manifest.preprocess.kind
    if options.prompt is not None and kind != "text":
        raise UsageError(f"expected --input FILE for a bundle that takes {kind}, found --prompt")
    if kind == "text" and options.prompt is not None:
        from edge.text import Texts

        texts = Texts(steps.bundles[0].folder, manifest.preprocess, steps.inputs, frugal=False)
        return texts.prepare([options.prompt], manifest.buckets[0]).take([0])
    pictures = [path for path in options.input if path.suffix.lower() in PICTURES]
    if kind == "image" and pictures:
        from wire.image import Images

        return dict(Images(manifest.preprocess, steps.inputs).tensors(pictures))
    sounds = [path for path in options.input if path.suffix.lower() in SOUNDS]
    if kind == "tensors" and sounds:
        from edge.tensors import Tensors

        way = Tensors(manifest.preprocess, steps.inputs)
        return way.prepare(sounds, manifest.buckets[0]).take(range(len(sounds)))
    return read_all(options.input)


def _labels(manifest: Manifest, values: Values) -> list[dict[str, Any]]:
    """The likeliest label of every row of logits [n, labels]."""
    name = "logits" if manifest.head is None else manifest.head.logits_output
    logits = values.get(name)
    if logits is None or logits.ndim != 2 or not manifest.labels or logits.shape[1] != len(manifest.labels):
        return []
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return [{"label": manifest.labels[int(row.argmax())], "score": float(row.max())} for row in shares]
