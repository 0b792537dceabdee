from __future__ import annotations

import numpy as np
import pytest

from console.errors import BadData, UsageError
from export.activations.calibrate import choose, runs_of
from tests.export.activations.nets import BATCH, cnn, drawn, mlp, pictures


def test_items_that_differ_are_chosen_before_copies() -> None:
    """Of three different items with many copies each, three chosen items are the three."""
    x = drawn(3, 12)[np.array([0, 0, 1, 0, 1, 2, 2, 0])]
    chosen = choose(mlp("N"), {"x": x}, 3)
    assert sorted(int(np.flatnonzero((x[i] == x).all(axis=1))[0]) for i in chosen) == [0, 2, 5]


def test_large_activations_come_first() -> None:
    """The item that the graph makes the most of is taken first: its ranges have to be seen."""
    x = drawn(20, 12)
    x[13] *= 30
    assert choose(mlp("N"), {"x": x}, 4)[0] == 13


def test_a_graph_of_fixed_batches_is_fed_whole_ones() -> None:
    """The last run is filled up with its own first item, and what fills it up is never chosen."""
    candidates = pictures(10)
    chosen = choose(cnn(), candidates, 10)
    assert sorted(chosen) == list(range(10))
    runs = runs_of(cnn(), candidates, [9, 1, 2, 3, 4, 5])
    assert [run["x"].shape[0] for run in runs] == [BATCH, BATCH]
    wanted = candidates["x"][[4, 5, 4, 4]]
    assert (runs[1]["x"] == wanted).all()


def test_fewer_candidates_than_asked_for_are_all_taken() -> None:
    """A count above the number of candidates is no error."""
    assert sorted(choose(mlp("N"), {"x": drawn(3, 12)}, 64)) == [0, 1, 2]


def test_bad_candidates_are_refused_with_all_that_is_wrong() -> None:
    """No items, names, shapes, types, NaN: one sentence."""
    with pytest.raises(UsageError, match="at least 1 calibration item"):
        choose(mlp("N"), {"x": drawn(3, 12)}, 0)
    with pytest.raises(BadData, match="expected calibration items for every input of the graph, found no items"):
        choose(mlp("N"), {"x": drawn(0, 12)}, 8)
    with pytest.raises(BadData, match=r"found no x; 'z', which the graph does not read"):
        choose(mlp("N"), {"z": drawn(3, 12)}, 8)
    with pytest.raises(BadData, match=r"x of the shape \[3, 11\], where it is \['items', 12\]; x of the type float64"):
        choose(mlp("N"), {"x": drawn(3, 11).astype(np.float64)}, 8)
    with pytest.raises(BadData, match="x of the shape \\[\\], where it is"):
        choose(mlp("N"), {"x": np.zeros((), np.float32)}, 8)
    broken = drawn(3, 12)
    broken[1, 1] = np.inf
    with pytest.raises(BadData, match="NaN or infinity in x"):
        choose(mlp("N"), {"x": broken}, 8)


def test_items_that_overflow_are_refused() -> None:
    """Finite items of which the graph makes infinity or NaN cannot be compared."""
    with pytest.raises(BadData, match="found NaN or infinity"):
        choose(mlp("N"), {"x": np.full((3, 12), 3e38, np.float32)}, 2)
