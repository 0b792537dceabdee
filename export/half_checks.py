"""Whether a plan rounds the forward half of its backward graphs, and how far its gradients are off then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import UnsupportedModel, UsageError, VerificationError
from devices.plan import Board
from export.activations.oracle import check
from export.activations.saturation import needs_seven_bits
from export.build import Piece, learning
from export.chain import Chain, Link, gradients_of
from export.formats.registry import INT8
from export.table_files import opened
from export.write import write_graphs

if TYPE_CHECKING:
    from export.stage import Stage

Array = NDArray[Any]
BAR = 0.98  # the least cosine of the gradients of a segment's adapters, all together


def rounds_half(train_activations: str, boards: Sequence[Board]) -> bool:
    """Whether the backward graphs of a board, or of a chain of boards, round activations.

    Raises:
        UsageError: a board's processor cuts off the largest products of eight bits.
    """
    if train_activations != INT8 or boards[0].mode != "train":
        return False
    for board in boards:
        if needs_seven_bits(board.cpu.isa):
            raise UsageError(
                f"expected --train-activations int8 for boards that add up products of eight bits, found {board.name}, "
                "whose AVX2 without VNNI cuts off the largest; leave the option out for it"
            )
    return True


def refuse_whole(pieces: Iterable[Piece]) -> None:
    """Refuse an export that asks for rounded activations and has them in no backward graph.

    Raises:
        UnsupportedModel: no weight of a backward graph is a matrix in int8.
    """
    if all(piece.unrounded is None for piece in pieces):
        raise UnsupportedModel(
            "expected matrices in int8 in a backward graph for --train-activations int8, found none; "
            "take --quant int8, or leave the option out"
        )


def unrounded(stage: Stage) -> Stage:
    """The same stage with backward graphs of float activations, which are written into a folder beside it."""
    folder = stage.folder / f"unrounded{stage.suffix}"
    folder.mkdir(exist_ok=True)
    pairs = [_unrounded(piece, link, folder) for piece, link in zip(stage.pieces, stage.links, strict=True)]
    return replace(stage, pieces=[piece for piece, _ in pairs], links=[link for _, link in pairs])


def _unrounded(piece: Piece, link: Link, folder: Path) -> tuple[Piece, Link]:
    if piece.unrounded is None or link.backward is None:
        return piece, link
    write_graphs({link.backward.stem: piece.unrounded}, folder, f"{link.name}.weights.bin")
    shipped = {**piece.shipped, "backward": piece.unrounded}
    return replace(piece, shipped=shipped), replace(link, backward=folder / link.backward.name)


def check_half(stage: Stage, floats: Stage, values: Mapping[str, Array]) -> dict[str, Any]:
    """Every product of integers against numpy, and all gradients against those with float activations.

    Args:
        stage: with backward graphs that round activations.
        floats: the same stage without, see `unrounded`.
        values: what is fed.

    Returns:
        `half_cosine` by group, and `half_steps`, see `export.activations.oracle.check`.

    Raises:
        VerificationError: a product is another one, or gradients have a cosine below 0.98.
    """
    tables, groups = opened(stage.tables), learning(stage.pieces)
    names = [name for group in groups.values() for name in group]
    chain, other = Chain(stage.links, tables), Chain(floats.links, tables)
    forward = chain.forward(values)
    found = chain.backward(forward)
    cosines = check_cosines(gradients_of(found, names), gradients_of(other.backward(forward), names), groups)
    fed = chain.feeds_of(found)
    rounded = [link.backward for piece, link in zip(stage.pieces, stage.links, strict=True) if piece.unrounded]
    return {"half_cosine": cosines, "half_steps": max(check(path, fed[path]) for path in rounded if path is not None)}


def check_cosines(
    rounded: Mapping[str, Array], exact: Mapping[str, Array], groups: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Gradients of a chain that rounds against those of the same chain with float activations.

    Args:
        rounded: gradients by the input that learns.
        exact: the same.
        groups: names of inputs that belong together.

    Returns:
        The cosine of each group, all its gradients as one vector; and under "least" that of the worst single input.

    Raises:
        VerificationError: a group's is below 0.98.
    """
    found = {what: _cosine([rounded[n] for n in names], [exact[n] for n in names]) for what, names in groups.items()}
    for what, cosine in found.items():
        if not cosine >= BAR:
            raise VerificationError(
                f"expected gradients of {what} with a cosine of at least {BAR} to those with float activations, found "
                f"{cosine:.4f}; export without --train-activations int8"
            )
    single = [_cosine([rounded[n]], [exact[n]]) for names in groups.values() for n in names if exact[n].any()]
    return {**found, "least": min(single, default=1.0)}


def _cosine(some: Sequence[Array], others: Sequence[Array]) -> float:
    a, b = (np.concatenate([x.astype(np.float64).reshape(-1) for x in arrays]) for arrays in (some, others))
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else float(not a.any() and not b.any())
