"""Latency tables: exact at their points, monotone between them, whole in TOML; and what the time model makes of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.errors import BadData
from console.toml import read_toml
from devices.latency import Curve, Latency, work_ns
from devices.plan import Board
from devices.products import product_nodes
from devices.profile import load, names, parse
from devices.profile_text import profile_text
from devices.speed import FORMATS, GENERIC, cpu_of, product_ns
from devices.stages import Search, Station
from devices.times import NS, Speed, of_items, speed_of, unit_ns, works_ns
from devices.units import Unit
from wire.record import plain
from wire.work import Work

SOURCE = "measured: by hand"
ROWS, SIDES = (1, 16, 128), (64, 256, 1024)
FOUR = "raspberry-pi-4-2gb"


def grid(slowness: float = 1.0) -> Curve:
    """Products that take 100 ns, 10 ns per row and 0.01 ns per operation."""
    shapes = tuple((rows, side, side) for rows in ROWS for side in SIDES)
    return Curve(
        "MatMul", "fp32", 1, shapes, tuple(round(slowness * (100 + 10 * r + 0.01 * r * i * o)) for r, i, o in shapes)
    )


def elements(operator: str, fmt: str = "fp32") -> Curve:
    """Nodes that take 1 ns per element."""
    return Curve(operator, fmt, 1, ((1000,), (100_000,)), (1000, 100_000))


TABLE = Latency(SOURCE, (grid(), elements("Add"), Curve("run", "", 1, ((1,), (11,)), (500, 1500))))


def test_points_are_as_measured() -> None:
    """Every point of a table is given back to the nanosecond."""
    for curve in TABLE.curves[:2]:
        for shape, ns in zip(curve.shapes, curve.ns, strict=True):
            assert TABLE.work_ns(Work(curve.operator, curve.format, shape)) == ns


def test_between_points_is_a_power_law() -> None:
    """By hand: halfway between logarithms is the geometric mean; beyond the table time grows as the work does."""
    assert TABLE.work_ns(Work("Add", "fp32", (10_000,))) == pytest.approx(10_000)
    assert TABLE.work_ns(Work("Add", "fp32", (300_000,))) == pytest.approx(300_000)
    assert TABLE.work_ns(Work("MatMul", "fp32", (1, 2048, 1024))) == pytest.approx(2 * grid().ns[2])
    assert TABLE.work_ns(Work("MatMul", "fp32", (256, 1024, 1024))) == pytest.approx(2 * grid().ns[-1])


@given(*[st.integers(1, 4096)] * 4)
def test_more_work_takes_no_less(rows: int, more_rows: int, weights: int, more_weights: int) -> None:
    """In a table that is monotone, time never falls with rows or with weights."""
    low = TABLE.work_ns(Work("MatMul", "fp32", (min(rows, more_rows), min(weights, more_weights), 7)))
    high = TABLE.work_ns(Work("MatMul", "fp32", (max(rows, more_rows), max(weights, more_weights), 7)))

    assert 0 < (low or 0) <= (high or 0) * (1 + 1e-9)


def test_no_node_takes_less_than_one_that_does_nothing() -> None:
    """By hand: eleven idle nodes take 1000 ns more than one, so a node takes 100 and a run 400 beside it."""
    assert TABLE.idle_ns() == (400, 100)
    assert TABLE.work_ns(Work("Add", "fp32", (1,), count=3)) == 300


def test_products_side_by_side_share_one_start() -> None:
    """A node of twelve products takes what an idle node does once, and twelve times the rest."""
    one = TABLE.work_ns(Work("MatMul", "fp32", (16, 64, 64)))

    assert one is not None
    assert TABLE.work_ns(Work("MatMul", "fp32", (16, 64, 64), batch=12)) == pytest.approx(100 + 12 * (one - 100))


def test_threads_are_those_that_were_measured() -> None:
    """More threads than were measured count as those; fewer are not known."""
    table = Latency(SOURCE, (replace(elements("Add"), threads=2),))

    assert table.work_ns(Work("Add", "fp32", (1000,)), 4) == 1000
    assert table.work_ns(Work("Add", "fp32", (1000,)), 1) is None


def test_what_the_table_does_not_know() -> None:
    """One unknown operator makes a sum unknown, as does no table; a run's time then comes from the rates."""
    works = [Work("Add", "fp32", (1000,)), Work("Erf", "fp32", (1000,))]

    assert work_ns(works, TABLE) is None
    assert work_ns(works[:1], None) is None
    # by hand: 8 bytes for each of 1000 elements at 1 GB/s, beside the table's 1000
    assert works_ns(works, Speed(NS, NS, NS, "given", TABLE)) == 1000 + 8000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ns": [1]}, "latency.curves[0].ns: expected one for each of 9 shapes, found 1"),
        ({"shapes": [], "ns": []}, "latency.curves[0].shapes: expected at least one"),
        ({"operator": "Add", "shapes": [[1], [1]], "ns": [1, 2]}, "latency.curves[0].shapes: expected each once"),
        ({"ns": [0] * 9}, "latency.curves[0].ns[0]: expected at least 1, found 0"),
        ({"threads": 0}, "threads: expected at least 1"),
    ],
)
def test_a_table_that_cannot_be(change: dict[str, Any], said: str) -> None:
    """A profile with a table that contradicts itself is refused, and what is wrong is named."""
    tables = plain(load(FOUR))
    tables["latency"] = {"source": SOURCE, "curves": [{**plain(grid()), **change}]}

    with pytest.raises(BadData) as refused:
        parse(tables, FOUR, "it")
    assert said in str(refused.value)


def test_two_curves_of_a_kind_are_one_too_many() -> None:
    """An operator, format and number of threads has one curve."""
    tables = {**plain(load(FOUR)), "latency": plain(Latency(SOURCE, (grid(), grid())))}

    with pytest.raises(BadData, match="expected one curve of MatMul fp32 with 1 threads, found another"):
        parse(tables, FOUR, "it")


@pytest.mark.parametrize("name", names())
def test_profiles_survive_their_text(name: str, tmp_path: Path) -> None:
    """Every profile, and one with a table, is read back as it was written."""
    for profile in (load(name), replace(load(name), latency=TABLE)):
        (tmp_path / f"{name}.toml").write_text(profile_text(profile, "# of a test\n"), encoding="utf-8")
        assert load(name, tmp_path) == profile


def test_unknown_fields_survive_too(tmp_path: Path) -> None:
    """What a newer version wrote is kept, at the top, in a figure, in the table and in a curve."""
    tables = plain(replace(load(FOUR), latency=TABLE))
    tables["new field"] = {"a": [1, "two"], "b": True}
    tables["cores"]["note"] = "x"
    tables["latency"]["kernel"] = 'say "6.12"'
    tables["latency"]["curves"][0]["spread"] = 0.5
    profile = parse(tables, FOUR, "it")
    path = tmp_path / f"{FOUR}.toml"
    path.write_text(profile_text(profile), encoding="utf-8")

    assert profile.extra == {"new field": {"a": [1, "two"], "b": True}}
    assert parse(read_toml(path), FOUR, "it") == profile


def test_a_measured_link_counts_for_more_than_its_name() -> None:
    """Where a profile has what came from a hub, the link has that rate and says so."""
    tables = plain(load(FOUR))
    tables["link_bytes_per_s"] = {"value": 3_000_000, "source": SOURCE}
    speed = speed_of(parse(tables, FOUR, "it"))

    assert speed.link_bytes_per_s == 3_000_000
    assert f"link 3 MB/s ({SOURCE})" in speed.source


@given(st.sampled_from(FORMATS), st.integers(1, 200))
def test_formats_are_weighed_by_the_table(fmt: str, rows: int) -> None:
    """A product takes what the table says of its nodes where it knows them all, and else what the rates say."""
    nodes = product_nodes(fmt, rows, 256, 256).all
    kinds = {(work.operator, work.format) for work in nodes}
    curves = tuple(replace(grid(), operator=operator, format=f) for operator, f in kinds if "MatMul" in operator)
    curves += tuple(elements(operator, f) for operator, f in kinds if "MatMul" not in operator)
    table = Latency(SOURCE, curves)
    expected = sum(table.work_ns(work) or 0 for work in nodes)

    stored = 256 * 256
    assert product_ns(fmt, rows, 256, 256, replace(GENERIC, latency=table), stored) == pytest.approx(expected, abs=1)
    partly = replace(GENERIC, latency=Latency(SOURCE, curves[1:]))
    assert product_ns(fmt, rows, 256, 256, partly, stored) == product_ns(fmt, rows, 256, 256, GENERIC, stored)


def unit(name: str, rows: int) -> Unit:
    """A product of so many rows for one item, after a weight is restored at every run."""
    restored = Work("DequantizeLinear", "int8", (1000,))
    works = {"int8": ((restored,), (Work("MatMul", "fp32", (rows, 64, 64)),))}
    return Unit(name, {"int8": 4096}, 0, 0, 1, flops_per_item=8192 * rows, works=works)


def test_units_take_what_their_nodes_take() -> None:
    """By hand: a weight is restored once a run, rows grow with the items; training passes four times."""
    speed = Speed(NS, NS, NS, "given", Latency(SOURCE, (grid(), elements("DequantizeLinear", "int8"))))

    assert unit_ns(unit("u", 4), "int8", "serve", 4, speed) == 1000 + grid().ns[3]
    assert unit_ns(unit("u", 4), "int8", "train", 4, speed) == 4 * (1000 + grid().ns[3])
    assert of_items(Work("MatMul", "fp32", (8, 2, 2), batch=3), 2).batch == 6


def test_a_table_moves_a_border() -> None:
    """Of two boards of equal rates, the one whose table is twice as slow gets fewer units: the planner uses it."""
    units = [unit(f"u{at}", 128) for at in range(6)]

    def stations(slower: float) -> list[Station]:
        tables = [Latency(SOURCE, (grid(s), elements("DequantizeLinear", "int8"))) for s in (1.0, slower)]
        board = Board("b", 1 << 40, "serve", "int8", 1)
        return [Station(board, Speed(NS, NS, NS, "given", table)) for table in tables]

    def borders(slower: float) -> tuple[int, ...]:
        best = Search(units, stations(slower), 1, 1, range(len(units) + 1)).best("throughput")
        assert best is not None
        return best[1]

    assert borders(1.0) == (0, 3, 6)
    assert borders(2.0) == (0, 4, 6)


def test_profiles_hand_their_table_on() -> None:
    """Formats and cuts are planned with the table of the board's profile."""
    profile = replace(load(FOUR), latency=TABLE)

    assert cpu_of(profile).latency is TABLE
    assert speed_of(profile).latency is TABLE
    assert SOURCE in speed_of(profile).source
