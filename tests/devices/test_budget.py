"""The training budget against exact fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from devices.budget import training_budget_bytes

MIB = 1 << 20


@given(st.integers(min_value=0, max_value=1 << 50))
def test_the_budget_is_the_formula_rounded_down(available_bytes: int) -> None:
    """MemAvailable less 32 MiB less 15 %, in exact arithmetic, rounded down, and never negative."""
    exact = Fraction(available_bytes) * Fraction(85, 100) - 32 * MIB

    assert training_budget_bytes(available_bytes) == max(0, exact.__floor__())


def test_the_smallest_board() -> None:
    """A Raspberry Pi Zero 2 W with 292 MiB to spare trains within 216.2 MiB."""
    assert round(training_budget_bytes(292 * MIB) / MIB, 1) == 216.2
