"""Formats chosen weight by weight: against brute force, and within the bytes and the time of int8 everywhere."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from console.errors import DoesNotFit
from devices.speed import GENERIC, Cpu
from export.choice.within import ERROR_BAR, NEAR, PLAIN, Limits, Weighed, by_segment, smallest, spend
from export.formats.grid import Grid
from export.formats.layout import Layout

FAST = Cpu(frozenset({"dotprod"}), 2_400_000_000, 5_000_000_000, 4, 16)
FORMATS = ("fp32", "fp16", "int8", "int4")


def drawn(seed: int, count: int = 4) -> list[Weighed]:
    """Weights of random sizes and errors, each format an order of magnitude or more worse than the one before."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(count):
        layout = Layout("matrix", (32 * int(rng.integers(1, 9)), 32 * int(rng.integers(1, 9))))
        base = 10.0 ** rng.uniform(-5, -2)
        errors = dict(zip(FORMATS, (0.0, base * 1e-4, base * 1e-2, base), strict=True))
        out.append(Weighed(f"w{k}", layout, int(rng.integers(1, 64)), errors))
    return out


def totals(weights: list[Weighed], formats: tuple[str, ...], cpu: Cpu) -> tuple[int, float, int]:
    """Bytes, error and time of one way to store them."""
    layers = [w.layer(Grid(), cpu, written=False) for w in weights]
    chosen = [next(o for o in layer.options if o.format == f) for layer, f in zip(layers, formats, strict=True)]
    return sum(o.stored_bytes for o in chosen), sum(o.error for o in chosen), sum(o.time_ns for o in chosen)


@pytest.mark.parametrize("seed", range(6))
def test_the_smallest_within_the_error_bar(seed: int) -> None:
    """No other way to store the weights that keeps the error is smaller by more than the search's last step."""
    weights = drawn(seed)
    found = tuple(smallest(weights, Grid()).values())
    size, error, _ = totals(weights, found, GENERIC)
    assert error <= ERROR_BAR
    ways = itertools.product(FORMATS, repeat=len(weights))
    best = min(s for s, e, _ in (totals(weights, way, GENERIC) for way in ways) if e <= ERROR_BAR)
    most = totals(weights, ("fp32",) * len(weights), GENERIC)[0]
    assert best <= size <= best + (most >> 11)


@pytest.mark.parametrize("cpu", [GENERIC, FAST], ids=["no dot products", "dot products"])
@pytest.mark.parametrize("seed", range(6))
def test_what_room_is_left_is_spent(seed: int, cpu: Cpu) -> None:
    """Never more bytes or time than int8 everywhere, never more error than it, and near the best by brute force."""
    weights = drawn(seed)
    found = tuple(spend(weights, Grid(), cpu, Limits(1 << 40), {}, written=False).values())
    plain = totals(weights, (PLAIN,) * len(weights), cpu)
    size, error, time_ns = totals(weights, found, cpu)
    assert size <= plain[0]
    assert error <= plain[1]
    assert time_ns <= plain[2]
    ways = [totals(weights, way, cpu) for way in itertools.product(FORMATS, repeat=len(weights))]
    best = min(e for s, e, t in ways if s <= plain[0] and t <= plain[2])
    assert error <= max(1.5 * best, best + 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_time_is_bought_with_what_error_is_left(seed: int) -> None:
    """At one row, near the fastest way within bytes and the error that is allowed for it, and little error for that."""
    weights = [replace(w, rows=1) for w in drawn(seed)]
    allowed = 0.9 * totals(weights, ("int4",) * len(weights), FAST)[1]
    found = tuple(spend(weights, Grid(), FAST, Limits(1 << 40, 0, allowed), {}, written=False).values())
    plain = totals(weights, (PLAIN,) * len(weights), FAST)
    size, error, time_ns = totals(weights, found, FAST)
    ways = [totals(weights, way, FAST) for way in itertools.product(FORMATS, repeat=len(weights))]
    fastest = min(t for s, e, t in ways if s <= plain[0] and e <= allowed)
    best = min(e for s, e, t in ways if s <= plain[0] and t <= min(plain[2], NEAR * fastest))
    assert size <= plain[0]
    # the fastest is known up to the bound of two limits
    assert time_ns <= min(plain[2], 1.2 * NEAR * fastest)
    assert error <= max(2 * best, best + 1e-9)


def test_a_small_board_gets_what_fits() -> None:
    """Room for less than int8 means fewer bits, the least error within it; less than anything is refused."""
    weights = drawn(1)
    least, most = (totals(weights, (f,) * len(weights), GENERIC)[0] for f in ("int4", "int8"))
    room = (least + most) // 2
    found = spend(weights, Grid(), GENERIC, Limits(room), {}, written=False)
    size, error, _ = totals(weights, tuple(found.values()), GENERIC)
    ways = [totals(weights, way, GENERIC) for way in itertools.product(FORMATS, repeat=len(weights))]
    assert size <= room
    assert error == pytest.approx(min(e for s, e, _ in ways if s <= room))
    with pytest.raises(DoesNotFit):
        spend(weights, Grid(), GENERIC, Limits(least - 1), {}, written=False)


def test_a_weight_of_an_earlier_segment_keeps_its_format() -> None:
    """What another segment has chosen is not chosen again."""
    weights = drawn(2)
    assert spend(weights, Grid(), GENERIC, Limits(1 << 40, 1 << 40), {"w1": "int4"}, written=False)["w1"] == "int4"


def test_weights_by_segment() -> None:
    """A weight belongs to every segment with a unit that reads it, within the units of a board."""
    readers = {"a": (0,), "b": (1, 3), "c": (2,), "d": (4,)}
    assert by_segment(readers, (2,), (0, 4)) == [{"a", "b"}, {"b", "c"}]
    assert by_segment(readers, (), (3, 5)) == [{"b", "d"}]
