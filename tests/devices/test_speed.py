"""Predicted times of products by format: orderings that must hold on every board, and the words for them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.cores import CORES, INT8_PER_FP32
from devices.kernels import KERNELS
from devices.profile import load, names
from devices.source import SOURCE
from devices.speed import FORMATS, GENERIC, Cpu, cpu_of, lookup_ns, product_ns
from devices.verdict import formats_line, sentence, verdict
from tests.devices.speeds import ZEN, stored

PI_4, PI_5 = (cpu_of(load(name)) for name in ("raspberry-pi-4-2gb", "raspberry-pi-5-4gb"))
formats = st.sampled_from(FORMATS)
rows_ = st.integers(1, 300)
cpus = st.sampled_from([GENERIC, ZEN, *(cpu_of(load(name)) for name in names())])
levels = st.sampled_from([0, 4])


def ns(fmt: str, rows: int, cpu: Cpu, side: int = 1024, level: int = 4) -> int:
    """Of a square weight."""
    return product_ns(fmt, rows, side, side, cpu, stored(fmt, side * side), level)


@pytest.mark.parametrize("name", [name for name in names() if cpu_of(load(name)).multiplies_int8])
def test_dot_products_make_integers_fast(name: str) -> None:
    """With dot products, int4 is faster than fp32 at one row, and int8-dynamic at one row and at 128."""
    cpu = cpu_of(load(name))

    assert ns("int4", 1, cpu) < ns("fp32", 1, cpu)
    assert ns("int8-dynamic", 1, cpu) < ns("fp32", 1, cpu)
    assert 1.5 * ns("int8-dynamic", 128, cpu) < ns("fp32", 128, cpu)


@pytest.mark.parametrize("name", [name for name in names() if not cpu_of(load(name)).multiplies_int8])
def test_without_dot_products_many_rows_save_memory_only(name: str) -> None:
    """Without dot products no format is faster than fp32 at 128 rows; on a Pi 4, int4 is not at one row either."""
    cpu = cpu_of(load(name))

    assert {verdict(fmt, 128, cpu) for fmt in FORMATS[1:]} <= {"saves memory only", "slow"}
    assert verdict("int4", 1, PI_4) == "saves memory only"


@given(st.sampled_from(("nf4", "fp4")), st.integers(1, 128), cpus, levels)
def test_lookups_are_slowest(fmt: str, rows: int, cpu: Cpu, level: int) -> None:
    """nf4 and fp4 are slower than every other format but 8-bit blocks that are unpacked by a scalar loop."""
    scalar = level == 0 or not cpu.multiplies_int8
    others = set(FORMATS) - {"nf4", "fp4", *(["int8-blocks"] if scalar else [])}

    assert ns(fmt, rows, cpu, level=level) > max(ns(other, rows, cpu, level=level) for other in others)


@given(formats, rows_, rows_, st.integers(1, 4096), st.integers(1, 4096), cpus, levels)
def test_more_rows_take_no_less(
    fmt: str, fewer: int, more: int, features_in: int, features_out: int, cpu: Cpu, level: int
) -> None:
    """Time does not fall with rows, of products and of lookups, and no product takes none."""
    fewer, more = sorted((fewer, more))
    size = stored(fmt, features_in * features_out)
    few, many = (product_ns(fmt, rows, features_in, features_out, cpu, size, level) for rows in (fewer, more))

    assert 0 < few <= many
    assert 0 < lookup_ns(fmt, fewer, features_in, cpu) <= lookup_ns(fmt, more, features_in, cpu)


@given(formats.filter(lambda fmt: fmt != "fp32"), rows_, st.integers(0, 1 << 24), st.integers(0, 1 << 24), cpus)
def test_more_bytes_take_no_less(fmt: str, rows: int, fewer: int, more: int, cpu: Cpu) -> None:
    """Time does not fall with the bytes that are stored."""
    few, many = (product_ns(fmt, rows, 512, 512, cpu, size) for size in sorted((fewer, more)))

    assert few <= many


@given(formats, rows_, st.integers(2, 9))
def test_a_faster_core_takes_no_longer(fmt: str, rows: int, times: int) -> None:
    """Time does not grow with the clock or with what memory gives."""
    clock = Cpu(PI_4.isa, PI_4.clock_hz * times, PI_4.copy_bytes_per_s, 4)
    memory = Cpu(PI_4.isa, PI_4.clock_hz, PI_4.copy_bytes_per_s * times, 4)

    assert max(ns(fmt, rows, clock), ns(fmt, rows, memory)) <= ns(fmt, rows, PI_4)


def test_one_row_of_floats_streams_the_weight() -> None:
    """One fp32 row takes what reading 4 bytes per weight takes: by hand, 4 MiB and 8 KiB at 4.48 GB/s."""
    assert ns("fp32", 1, PI_4) == pytest.approx((4 * 1024 * 1024 + 8192) / 4.48, rel=1e-6)


def test_many_rows_of_floats_are_bound_by_arithmetic() -> None:
    """128 fp32 rows take 2 * 128 * 1024^2 operations at 85 % of 8 a cycle: by hand, at 1.5 GHz."""
    assert ns("fp32", 128, PI_4) == pytest.approx(2 * 128 * 1024**2 / (0.85 * 8 * 1.5), rel=1e-6)


def test_levels_differ_only_in_blocks() -> None:
    """Accuracy level 0 is slower for MatMulNBits where the core has dot products, and is nothing to other formats."""
    slower = {fmt for fmt in FORMATS if ns(fmt, 1, PI_5, level=0) > ns(fmt, 1, PI_5)}
    same = {fmt for fmt in FORMATS if ns(fmt, 1, PI_4, level=0) == ns(fmt, 1, PI_4)}

    assert slower == {"int4", "int8-blocks"}
    assert same == set(FORMATS)


def test_an_unknown_format_is_no_time() -> None:
    """A format that no kernel is known for is an error with the known ones, of products, lookups and verdicts."""
    for ask in (
        lambda: product_ns("int3", 1, 8, 8, GENERIC, 64),
        lambda: lookup_ns("int3", 1, 8, GENERIC),
        lambda: verdict("int3", 1, GENERIC),
    ):
        with pytest.raises(ValueError, match="expected one of fp32, .*int4.* found 'int3'"):
            ask()


def test_sentences_name_what_is_missing() -> None:
    """The report's words: fast with dot products, memory only without, nf4 slow."""
    pi_4, pi_5 = cpu_of(load("raspberry-pi-4-2gb")), cpu_of(load("raspberry-pi-5-4gb"))

    assert sentence("int4", 1, pi_5, level=4) == "int4 is fast at 1 row"
    assert sentence("int4", 1, pi_4, level=4) == "int4 saves memory only at 1 row (no dot products)"
    assert sentence("int4", 1, pi_4) == "int4 saves memory only at 1 row"
    assert sentence("nf4", 1, pi_5) == "nf4 is slow at 1 row"
    assert sentence("int8-dynamic", 128, pi_4).endswith("at 128 rows (no dot products)")


def test_a_line_has_every_format_once() -> None:
    """The line of a board names each format but fp32 once."""
    words = formats_line(1, PI_5).replace(";", ",").replace("saves memory only ", "").replace("fast ", "")

    assert sorted(word.split()[-1] for word in words.split(",")) == sorted(FORMATS[1:])


@pytest.mark.parametrize("name", names())
def test_a_profile_has_what_its_core_has(name: str) -> None:
    """The extensions for int8 in a profile are those of its core, which is known."""
    profile = load(name)

    assert profile.core in CORES
    assert set(profile.isa) & set(INT8_PER_FP32) == CORES[profile.core].isa & set(INT8_PER_FP32)
    assert CORES[profile.core].isa <= set(profile.isa)


def test_every_constant_has_a_source() -> None:
    """Each constant says whether it was measured, is of a data sheet, or is nobody's."""
    sources = [core.source for core in CORES.values()] + [kernel.source for kernel in KERNELS.values()]
    assert all(re.fullmatch(SOURCE, source) for source in sources)
