"""What one run of a weight's product takes by its format, in plain numbers: to compare formats by, not a promise.

A roofline (see `devices.times`) per step of what onnxruntime's kernel does with the format, on one thread:

    fp32                     one product
    fp16, int8, nf4, fp4     the weight as float is written, packed for many rows, and multiplied, at every run
    int4, int8-blocks        MatMulNBits of floats: one row is unpacked as it is multiplied, many through unpacked
                             panels; integer products at accuracy level 4 where the core has dot products
    int8-dynamic, -static    integer products of rounded activations

Shares and cycles of `KERNELS` were measured once on x86-64; they are taken for Arm, where nobody has. 8-bit blocks
without integer products are unpacked by a scalar loop (measured: 13 times slower than fp32 at one row). MatMulNBits
keeps these times only with prepacking: without it each format falls back to that loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from devices.cores import core_named, int8_per_fp32
from devices.kernels import KERNELS
from devices.latency import Latency, work_ns
from devices.products import product_nodes
from devices.profile import Profile

FORMATS = ("fp32", "fp16", "int8", "int8-blocks", "int4", "nf4", "fp4", "int8-dynamic", "int8-static")
NS = 1e9
LEVEL = 0  # accuracy level of MatMulNBits in bundles: 4 rounds activations to int8 where the core can, 0 never does
# A core that copies b bytes reads b and writes b.
TRAFFIC_PER_COPY = 2
# of one core, where only the nominal bandwidth of the memory is known; unverified: the profiles that have both are
# between a twentieth and a third, and none has more than 11 GB/s
COPY_SHARE, COPY_MOST_BYTES_PER_S = 4, 12_000_000_000


@dataclass(frozen=True)
class Cpu:
    """One core and its memory, as far as kernels care; `cores` is how many there are, of which a run uses one.

    `latency` is what was measured there, which then says what a product takes.
    """

    isa: frozenset[str]
    clock_hz: int
    copy_bytes_per_s: int
    cores: int
    flops_per_cycle: int = 8
    latency: Latency | None = field(default=None, repr=False)

    @property
    def flops_per_s(self) -> int:
        """Peak in float32."""
        return self.clock_hz * self.flops_per_cycle

    @property
    def int8_per_s(self) -> int:
        """Peak of int8 products."""
        return self.flops_per_s * int8_per_fp32(self.isa)

    @property
    def multiplies_int8(self) -> bool:
        """Whether it has dot products of int8."""
        return int8_per_fp32(self.isa) > 1


GENERIC = Cpu(frozenset(), 1_500_000_000, 2_000_000_000, 4)  # of a board without a profile; about a Cortex-A72


def cpu_of(profile: Profile) -> Cpu:
    """The core of a kind of board. Where nobody measured what it copies, a quarter of its nominal bandwidth."""
    copy = profile.copy_bytes_per_s
    guess = min(profile.bandwidth_bytes_per_s.value // COPY_SHARE, COPY_MOST_BYTES_PER_S)
    rate = copy.value if copy else guess
    flops = core_named(profile.core).flops_per_cycle
    return Cpu(frozenset(profile.isa), profile.clock_hz.value, rate, profile.cores.value, flops, profile.latency)


def product_ns(
    fmt: str, rows: int, features_in: int, features_out: int, cpu: Cpu, stored_bytes: int, level: int = LEVEL
) -> int:
    """Nanoseconds of [rows, in] times a weight [in, out] on one thread: by the board's table, else by its rates.

    Args:
        fmt: one of `FORMATS`.
        rows: of the activations: items times tokens.
        features_in: of the weight; of a convolution, those of one output value.
        features_out: of the weight.
        cpu: what computes.
        stored_bytes: of the weight in its format, scales included.
        level: accuracy level of int4 and int8-blocks; see the top.

    Raises:
        ValueError: an unknown format.

    >>> pi = Cpu(frozenset({"dotprod"}), 2_400_000_000, 5_270_000_000, 4, 16)
    >>> product_ns("int4", 1, 1024, 1024, pi, 655_360, level=4) < product_ns("fp32", 1, 1024, 1024, pi, 4_194_304)
    True
    """
    if fmt not in FORMATS:
        raise ValueError(f"expected one of {', '.join(FORMATS)}, found {fmt!r}")
    if level == LEVEL:  # of the graphs that were measured
        measured = work_ns(product_nodes(fmt, rows, features_in, features_out).all, cpu.latency)
        if measured is not None:
            return max(1, math.ceil(measured))
    work = _Work(rows, features_in, features_out, cpu, stored_bytes)
    if fmt == "fp32":
        found = work.product(4 * work.weights)
    elif fmt in ("int8-dynamic", "int8-static"):
        found = work.rounded()
    elif fmt in ("int4", "int8-blocks"):
        found = work.blocks(fmt, integer=level == 4 and cpu.multiplies_int8)
    else:
        found = work.written(_cycles("lookup cycles") if fmt in ("nf4", "fp4") else 0.0)
    return math.ceil(found)


def lookup_ns(fmt: str, rows: int, columns: int, cpu: Cpu) -> int:
    """Nanoseconds of reading rows of a table and making floats of them.

    Args:
        fmt: one of `FORMATS`; tables have the same one format for all of a row.
        rows: how many are read.
        columns: values of a row.
        cpu: what computes.

    Raises:
        ValueError: an unknown format.
    """
    values = rows * columns
    moved = _lookup_bytes(fmt) * values / (TRAFFIC_PER_COPY * cpu.copy_bytes_per_s) * NS
    unpacking = _cycles("4 bits, table cycles") if fmt in ("int4", "nf4", "fp4") else 0.0
    return math.ceil(max(moved, rows * KERNELS["row latency ns"].value) + values * unpacking / cpu.clock_hz * NS)


def _lookup_bytes(fmt: str) -> float:
    """Read and written per value: fp16 is cast, int8 gathered, cast and scaled, each a node of its own."""
    if fmt not in FORMATS:
        raise ValueError(f"expected one of {', '.join(FORMATS)}, found {fmt!r}")
    return {"fp32": 8.0, "fp16": 10.0, "int4": 4.5, "nf4": 4.5, "fp4": 4.5}.get(fmt, 15.0)


def _cycles(name: str) -> float:
    return KERNELS[name].value


@dataclass(frozen=True)
class _Work:
    """One product; its methods are nanoseconds."""

    rows: int
    features_in: int
    features_out: int
    cpu: Cpu
    stored_bytes: int

    @property
    def weights(self) -> int:
        return self.features_in * self.features_out

    @property
    def operations(self) -> int:
        return 2 * self.rows * self.weights

    def moved(self, size: float) -> float:
        """Of bytes between memory and core."""
        return size / (TRAFFIC_PER_COPY * self.cpu.copy_bytes_per_s) * NS

    def spent(self, cycles: float, values: int) -> float:
        """Of cycles per value."""
        return cycles * values / self.cpu.clock_hz * NS

    def product(self, weight_bytes: int) -> float:
        """In float32, of a packed weight."""
        activations = 4 * self.rows * (self.features_in + self.features_out)
        flops = self.operations / (_cycles("product") * self.cpu.flops_per_s) * NS
        return max(self.moved(weight_bytes + activations), flops)

    def written(self, cycles: float) -> float:
        """In float32, of a weight that is written as float first."""
        floats = 4 * self.weights
        packed = self.moved(2 * floats) if self.rows > 1 else 0.0
        return self.moved(self.stored_bytes + floats) + self.spent(cycles, self.weights) + packed + self.product(floats)

    def rounded(self) -> float:
        """In int8, of activations that are rounded before and scaled after."""
        values = self.rows * (self.features_in + self.features_out)
        products = self.operations / (_cycles("integer product") * self.cpu.int8_per_s) * NS
        traffic = self.moved(self.stored_bytes + 5 * values)
        return max(traffic, products) + self.spent(_cycles("activation cycles"), values)

    def blocks(self, fmt: str, integer: bool) -> float:
        """By MatMulNBits; more rows never take less than one."""
        activations = 4 * self.rows * (self.features_in + self.features_out)
        stream = self.moved(self.stored_bytes + activations)
        if integer:
            row = _cycles("4 bits, row" if fmt == "int4" else "8 bits, row")
            one = 2 * self.weights / (row * self.cpu.int8_per_s) * NS
            return max(stream, one, self.operations / (_cycles("blocks, rows") * self.cpu.int8_per_s) * NS)
        if fmt == "int8-blocks":
            return self.moved(self.stored_bytes) + self.spent(_cycles("scalar cycles"), self.weights) + self.product(0)
        one = 2 * self.weights / (_cycles("unpacked row") * self.cpu.flops_per_s) * NS
        panels = self.spent(_cycles("panel cycles"), self.weights) + self.product(0)
        return max(stream, one, panels if self.rows > 1 else 0.0)
