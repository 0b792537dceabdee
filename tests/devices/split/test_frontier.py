"""Ranks within a size, against every choice of ranks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.split import frontier
from devices.split.frontier import Frontier
from devices.split.gain import gain
from devices.split.work import SlotWork

slots = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 1000)).map(lambda pair: (pair[0] * 3, pair[1])), min_size=1, max_size=5
)
RANKS = (1, 2, 5)


def works(drawn: list[tuple[int, int]]) -> tuple[list[SlotWork], dict[str, int]]:
    """Slots of so many values, and their importance."""
    made = [SlotWork(f"s{k}", k, values) for k, (values, _) in enumerate(drawn)]
    return made, {f"s{k}": share for k, (_, share) in enumerate(drawn)}


@settings(max_examples=150, deadline=None)
@given(slots, st.integers(0, 150), st.data())
def test_no_choice_within_the_room_covers_more(drawn: list[tuple[int, int]], room: int, data: st.DataObject) -> None:
    """For every front and room, the best choice of a frontier is that of all ranks of all its slots."""
    made, shares = works(drawn)
    count = data.draw(st.integers(0, len(made)))
    best = 0
    for ranks in itertools.product((0, *RANKS), repeat=count):
        values = sum(slot.values_per_rank * rank for slot, rank in zip(made, ranks, strict=False))
        if values <= room:
            covered = sum(gain(shares[slot.name], rank) for slot, rank in zip(made, ranks, strict=False))
            best = max(best, covered)
    found = Frontier(made, shares, RANKS)
    at = found.of(count).within(room)
    ranks_found = found.ranks(count, at)
    assert found.exact
    assert int(found.of(count).covered[at]) == best
    assert sum(gain(shares[name], rank) for name, rank in ranks_found.items()) == best
    spent = sum(made[int(name[1:])].values_per_rank * rank for name, rank in ranks_found.items())
    assert spent == int(found.of(count).values[at]) <= room


def test_a_thinned_frontier_loses_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few points kept, choices still add up to what they say and are within a share of the best ones."""
    made, shares = works([(97 + 13 * k, 1000 + 37 * k) for k in range(12)])
    whole = Frontier(made, shares, RANKS)
    monkeypatch.setattr(frontier, "MOST_POINTS", 256)
    thin = Frontier(made, shares, RANKS)
    assert whole.exact
    assert not thin.exact
    room = 4000
    best, found = (f.of(12).covered[f.of(12).within(room)] for f in (whole, thin))
    ranks = thin.ranks(12, thin.of(12).within(room))
    assert sum(gain(shares[name], rank) for name, rank in ranks.items()) == found
    assert 0.98 * best <= found <= best
