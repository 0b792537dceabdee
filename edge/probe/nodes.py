"""What is measured: graphs of one node (`graphs/`, made by `export.alone`), and the sizes that each is run at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wire.work import PRODUCTS

FOLDER = Path(__file__).resolve().parent / "graphs"
ROWS = (1, 16, 128)
SIDES = (64, 256, 1024)  # of weights
CHANNELS, PLACES = (8, 64, 128), (8, 32)  # of convolutions of 3 x 3: channels in and out, sides of pictures
AREA = 9
MATRICES = ((16, 64), (128, 256), (1024, 1024))  # what is no product
BLOCK = 32
BLOCKED = "blocks"  # the format whose scales are of blocks


@dataclass(frozen=True)
class Node:
    """One node at one size.

    Attributes:
        file: its graph.
        operator: as `wire.work` calls it; `run` of nodes that do next to nothing.
        format: of what it reads.
        shape: see `wire.work`; of `run` how many nodes there are.
        sizes: what stands for the symbols of the graph's inputs.
    """

    file: Path
    operator: str
    format: str
    shape: tuple[int, ...]
    sizes: Mapping[str, int]


def nodes(folder: Path = FOLDER) -> list[Node]:
    """All of them, from the names of the files: OPERATOR.FORMAT.onnx, or OPERATOR.FORMAT.SIZE.onnx."""
    return [node for path in sorted(folder.glob("*.onnx")) for node in _of(path)]


def _of(path: Path) -> Iterator[Node]:
    operator, fmt, *size = path.name.removesuffix(".onnx").split(".")
    if operator == "run":
        yield Node(path, operator, "", (int(fmt),), {})
    elif operator in {"Conv", "DepthwiseConv"}:
        yield from _convolutions(path, operator, fmt, [int(s) for s in size] or CHANNELS)
    elif operator in PRODUCTS:
        for side in [int(s) for s in size] or SIDES:
            for rows in ROWS:
                yield Node(path, operator, fmt, (rows, side, side), {"rows": rows, "in": side, "out": side})
    else:
        for rows, columns in MATRICES:
            sizes = {"rows": rows, "in": columns, "elements": rows * columns, "blocks": columns // BLOCK}
            yield Node(path, operator, fmt, (rows * columns,), sizes)


def _convolutions(path: Path, operator: str, fmt: str, channels: Iterable[int]) -> Iterator[Node]:
    for count in channels:
        for side in PLACES:
            read = AREA if operator == "DepthwiseConv" else AREA * count
            yield Node(path, operator, fmt, (side * side, read, count), {"in": count, "out": count, "side": side})
