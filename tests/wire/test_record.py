"""The one door for mappings from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from console.errors import BadData
from wire.record import at_least, matching, plain, read_record


@dataclass(frozen=True)
class Inner:
    size: int = field(metadata=at_least(1, 8))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    name: str = field(metadata=matching(r"[a-z]+"))
    inner: tuple[Inner, ...]
    mode: Literal["a", "b"] = "a"
    share: float | None = None
    table: dict[str, int] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def test_unknown_fields_survive_at_every_level() -> None:
    """What a reader does not know is written back unchanged."""
    data = {"name": "x", "inner": [{"size": 2, "new": [1]}], "mode": "b", "share": None, "table": {}, "later": {"k": 1}}
    assert plain(read_record(Outer, data, "it")) == data


def test_a_record_without_known_fields_is_what_it_carries() -> None:
    """A dataclass is written as a table even where all that it has came from a newer version; other values stay."""

    @dataclass(frozen=True)
    class Empty:
        extra: dict[str, Any] = field(default_factory=dict)

    assert plain((Empty({"later": 1}), Empty(), b"x", None)) == [{"later": 1}, {}, b"x", None]


def test_whole_numbers_are_floats_where_floats_are_meant() -> None:
    """JSON does not keep the difference between 1 and 1.0."""
    assert read_record(Outer, {"name": "x", "inner": [], "share": 1}, "it").share == 1.0


PROBLEMS = {
    "absent": ({"inner": []}, "name: missing"),
    "wrong type": ({"name": 3, "inner": []}, "name: expected str, found int '3'"),
    "bool is no int": ({"name": "x", "inner": [{"size": True}]}, r"inner\[0\].size: expected int"),
    "too small": ({"name": "x", "inner": [{"size": 0}]}, r"inner\[0\].size: expected at least 1, found 0"),
    "too large": ({"name": "x", "inner": [{"size": 9}]}, "expected at most 8, found 9"),
    "pattern": ({"name": "X!", "inner": []}, r"name: expected text like \[a-z\]\+, found 'X!'"),
    "choice": ({"name": "x", "inner": [], "mode": "c"}, "mode: expected one of a, b, found 'c'"),
    "list": ({"name": "x", "inner": {}}, "inner: expected a list"),
    "table": ({"name": "x", "inner": [], "table": {"k": "v"}}, "table.k: expected int"),
    "a float too long": ({"name": "x", "inner": [], "share": 10**999}, "share: expected a number of at most"),
    "not a number": ({"name": "x", "inner": [], "share": "1"}, "share: expected float"),
    "no table": ([], "expected a table, found list"),
}


@pytest.mark.parametrize(("data", "words"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_each_fault_is_named_where_it_is(data: Any, words: str) -> None:
    """A message names the field, what was expected and what was found."""
    with pytest.raises(BadData, match=words):
        read_record(Outer, data, "it")


def test_all_faults_are_reported_at_once() -> None:
    """Nobody mends a file one fault at a time."""
    with pytest.raises(BadData) as caught:
        read_record(Outer, {"name": 1, "inner": [{"size": 0}], "mode": "z"}, "it")
    assert all(word in str(caught.value) for word in ("name", "inner[0].size", "mode"))
