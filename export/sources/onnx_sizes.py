"""Sizes of a graph's inputs: what is fixed, what is the micro-batch, and what the user has to name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from export.sources.problems import Problems, short

BATCH = "batch"
LARGEST = 1 << 31
# of several symbols that inputs begin with, the one of such a name is the micro-batch
BATCH_NAMES = ("batch", "batch_size", "batch_dim", "n", "b", "bs")
TYPES = (
    *("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "BOOL"),
    *("INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64"),
)


@dataclass(frozen=True)
class Sizes:
    """Shapes of the inputs by name, in which only `batch` is symbolic, and the names that were given values."""

    shapes: dict[str, list[int | str]]
    given: dict[str, int]
    batches: tuple[int, ...] | None


def name_sizes(graph: onnx.GraphProto, sizes: Mapping[str, int], problems: Problems) -> Sizes:
    """Resolve the dimensions of a graph's inputs (initializers are none).

    Args:
        graph: of the file.
        sizes: of symbolic dimensions, by name; a dimension without a name is called `INPUT.AXIS`.
        problems: gets what cannot be resolved.
    """
    weights = {tensor.name for tensor in graph.initializer}
    raw = {value.name: _dims(value, problems) for value in graph.input if value.name not in weights}
    for value in graph.output:
        _check_type(value, "output", problems)
    symbols = {dim for dims in raw.values() for dim in dims if isinstance(dim, str)}
    unknown = sorted(set(sizes) - symbols)
    if unknown:
        known = ", ".join(sorted(symbols)) or "none"
        problems.unsupported.append(f"no dimension {', '.join(map(short, unknown))} for --size (it has {known})")
    wrong = [f"{name}={size}" for name, size in sizes.items() if not 1 <= size <= LARGEST]
    problems.unsupported.extend(f"the impossible size {text}" for text in wrong)
    batch = _batch(raw, sizes)
    open_names = sorted(symbols - set(sizes) - batch)
    if open_names:
        wanted = " ".join(f"--size {name}=N" for name in open_names)
        problems.unsupported.append(f"dimensions without a size, {', '.join(open_names)} (give {wanted})")
    shapes: dict[str, list[int | str]] = {
        name: [BATCH if d in batch else sizes.get(d, d) if isinstance(d, str) else d for d in dims]
        for name, dims in raw.items()
    }
    return Sizes(shapes, {n: s for n, s in sizes.items() if n in symbols}, None if batch else _fixed(shapes))


def _dims(value: onnx.ValueInfoProto, problems: Problems) -> list[int | str]:
    """Sizes, and names of sizes, of an input."""
    if not _check_type(value, "input", problems):
        return []
    if not value.type.tensor_type.HasField("shape"):
        problems.unsupported.append(f"the input {short(value.name)} without a shape (export it with one)")
        return []
    out: list[int | str] = []
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.dim_param:
            out.append(dim.dim_param)
        elif dim.HasField("dim_value") and dim.dim_value > 0:
            out.append(dim.dim_value)
            if dim.dim_value > LARGEST:
                problems.broken.append(f"the input {short(value.name)} of the impossible size {dim.dim_value}")
        elif dim.HasField("dim_value") and dim.dim_value < -1:
            problems.broken.append(f"the input {short(value.name)} of the impossible size {dim.dim_value}")
        else:  # some exporters write 0 or -1 for what is not known
            out.append(f"{value.name}.{axis}")
    return out


def _check_type(value: onnx.ValueInfoProto, what: str, problems: Problems) -> bool:
    """Whether an input or output is a tensor of numbers."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        found = "of no type" if kind is None else f"of the type {kind.removesuffix('_type').replace('_', ' ')}"
        problems.unsupported.append(f"the {what} {short(value.name)} {found}, which is no tensor")
        return False
    number = value.type.tensor_type.elem_type
    name = onnx.TensorProto.DataType.Name(number) if number in onnx.TensorProto.DataType.values() else str(number)
    if name not in TYPES:
        problems.unsupported.append(f"the {what} {short(value.name)} of the type {name.lower()}")
        return False
    return True


def _batch(raw: Mapping[str, list[int | str]], sizes: Mapping[str, int]) -> set[str]:
    """The symbols that are the micro-batch: what inputs begin with.

    Of several, the one with a usual name, else the one that most inputs share. Symbols without a name are it
    only if all inputs begin so.
    """
    first = [dims[0] for dims in raw.values() if dims]
    free = Counter(dim for dim in first if isinstance(dim, str) and dim not in sizes)
    anonymous = {f"{name}.0" for name in raw} & set(free)
    named = {name: count for name, count in free.items() if name not in anonymous}
    if not named:
        return anonymous if len(anonymous) == len(first) else set()
    likely = [name for name in named if name.lower().replace("-", "_") in BATCH_NAMES]
    if likely:
        return {likely[0]}
    most = [name for name, count in named.items() if count == max(named.values())]
    return set(most) if len(most) == 1 else set()


def _fixed(shapes: Mapping[str, list[int | str]]) -> tuple[int, ...]:
    """The one micro-batch of a graph whose sizes are all fixed: what all inputs begin with, else 1."""
    first = {dims[0] for dims in shapes.values() if dims}
    size = next(iter(first), 1)
    return (size,) if len(first) == 1 and isinstance(size, int) else (1,)
