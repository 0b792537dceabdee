"""Which items to calibrate with, and runs made of them.

Items are chosen by pivoted QR on what the float graph makes of them (`quant.items`): a handful then spans the ranges
that many would. Every problem of what was given is told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import BadData, UnsupportedModel, UsageError, join
from export.activations.tools import Run
from export.apart import apart
from export.chain import Graph
from export.features import CALLED
from export.gradient.dims import shape_of
from export.write import write_graphs
from quant.items import choose_items

Array = NDArray[Any]

FEWEST, MOST = 8, 64
COLUMNS = 1024  # of what a graph makes of an item; more do not change which items differ
ITEMS_AT_ONCE = 8  # where the graph leaves the number open


def choose(model: ir.Model, candidates: Mapping[str, Array], count: int) -> list[int]:
    """The items to calibrate with, the most telling first; the graph is run in a child process.

    Args:
        model: a float graph without slots, all of a model or its first part; it is run over all candidates.
        candidates: an array for every input, with items along its first axis.
        count: how many to choose; all where there are fewer candidates. 8 to 64 as a rule.

    Raises:
        UsageError: fewer than one item is asked for.
        BadData: no candidates, candidates that do not fit the graph, or numbers that it makes NaN or infinity of.
        UnsupportedModel: the graph's first output has no axis of items.
    """
    if count < 1:
        raise UsageError(f"expected to choose at least 1 calibration item, found {count}")
    items = check_candidates(model, candidates)
    return list(apart(lambda: _chosen(model, candidates, items, count)))


def _chosen(model: ir.Model, candidates: Mapping[str, Array], items: int, count: int) -> list[int]:
    with TemporaryDirectory() as folder:
        graph = loaded(model, Path(folder))
    name = _telling(model)
    rows: list[NDArray[np.float32]] = []
    for batch, real in _batches(model, candidates, range(items)):
        rows.extend(_rows(graph(batch)[name], len(next(iter(batch.values()))), name)[:real])
    try:
        return choose_items(np.stack(rows), min(count, items))
    except ValueError as problem:
        raise BadData(
            f"expected calibration items that the graph makes numbers of, but {problem}; give other items"
        ) from problem


def runs_of(model: ir.Model, candidates: Mapping[str, Array], items: Sequence[int]) -> list[Run]:
    """Feeds of a graph made of some items; the last run is filled up with the first of its own items.

    Raises:
        BadData: candidates that do not fit the graph.
    """
    check_candidates(model, candidates)
    return [batch for batch, _ in _batches(model, candidates, items)]


def check_candidates(model: ir.Model, candidates: Mapping[str, Array]) -> int:
    """How many items there are.

    Raises:
        BadData: no items, or all that does not fit the graph: names, shapes, types, NaN.
    """
    lengths = {name: len(array) if array.ndim else 0 for name, array in candidates.items()}
    problems = _problems(model, candidates, items_first=True)
    if len(set(lengths.values())) > 1:
        problems.append("items " + ", ".join(f"{count} of {name}" for name, count in lengths.items()))
    elif not any(lengths.values()) and not problems:
        problems.append("no items")
    if problems:
        raise BadData(f"expected calibration items for every input of the graph, found {join(problems)}")
    return next(iter(lengths.values()), 0)


def check_runs(model: ir.Model, runs: Sequence[Run]) -> None:
    """Whether runs can be fed to a graph.

    Raises:
        BadData: there are none, or all that does not fit.
    """
    if not runs:
        raise BadData("expected at least one run to calibrate with, found none; give items with --calibration FILE")
    found = [problem for run in runs for problem in _problems(model, run, items_first=False)]
    if found:
        raise BadData(f"expected calibration runs that fit the graph, found {join(list(dict.fromkeys(found)))}")


def required(model: ir.Model) -> dict[str, ir.Value]:
    """The inputs that a graph cannot do without."""
    return {str(value.name): value for value in model.graph.inputs if not value.is_initializer()}


def _problems(model: ir.Model, arrays: Mapping[str, Array], *, items_first: bool) -> list[str]:
    wanted = required(model)
    known = {str(value.name) for value in model.graph.inputs}
    problems = [f"no {name}" for name in wanted if name not in arrays]
    problems += [f"{name!r}, which the graph does not read" for name in arrays if name not in known]
    for name, array in arrays.items():
        if name in wanted:
            problems += _unfit(name, array, wanted[name], items_first=items_first)
    return problems


def _unfit(name: str, array: Array, value: ir.Value, *, items_first: bool) -> Iterator[str]:
    shape, dtype = shape_of(value), value.dtype
    if shape is not None:
        wanted: list[int | str | None] = ["items", *shape[1:]] if items_first else shape
        agree = len(wanted) == array.ndim and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(wanted, array.shape, strict=False)
        )
        if not agree or (array.ndim == 0 and items_first):
            yield f"{name} of the shape {list(array.shape)}, where it is {wanted}"
    if dtype is not None and array.dtype != dtype.numpy():
        yield f"{name} of the type {array.dtype}, where it is {dtype.numpy()}"
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        yield f"NaN or infinity in {name}"


def _batches(
    model: ir.Model, candidates: Mapping[str, Array], items: Sequence[int]
) -> Iterator[tuple[dict[str, Array], int]]:
    """Feeds of the graph's own batch size, and how many items of each are not there to fill it up."""
    stated = [shape_of(value) for value in required(model).values()]
    fixed = {shape[0] for shape in stated if shape and isinstance(shape[0], int)}
    if len(fixed) > 1:
        raise UnsupportedModel(
            f"expected inputs with one number of items per run, found {sorted(fixed)}; calibrate with runs instead"
        )
    size = int(next(iter(fixed), ITEMS_AT_ONCE))
    for start in range(0, len(items), size):
        chosen = list(items[start : start + size])
        filled = chosen + chosen[:1] * (size - len(chosen)) if fixed else chosen
        yield {name: candidates[name][filled] for name in required(model)}, len(chosen)


def loaded(model: ir.Model, folder: Path) -> Graph:
    """A session; the weights that it maps stay readable when the folder is gone."""
    write_graphs({"float": model.clone()}, folder, "float.bin")
    return Graph(folder / "float.onnx")


def _telling(model: ir.Model) -> str:
    """The output by which items are compared: features where there are some, else the first of floats."""
    floats = [str(value.name) for value in model.graph.outputs if value.dtype == ir.DataType.FLOAT]
    if not floats:
        raise UnsupportedModel("expected an output of floats to compare calibration items by, found none")
    return next((name for name in CALLED if name in floats), floats[0])


def _rows(output: Array, items: int, name: str) -> NDArray[np.float32]:
    """One row per item, of at most so many columns, spread evenly."""
    if output.ndim == 0 or len(output) % items:
        raise UnsupportedModel(
            f"expected the output {name} to have an axis of {items} items first, found the shape {list(output.shape)}"
        )
    flat = output.reshape(items, -1)
    return flat[:, :: -(-flat.shape[1] // COLUMNS)]
