"""What the cores of known boards compute in a cycle, with sources."""

from __future__ import annotations

from dataclasses import dataclass

# How many int8 operations fit where one fp32 operation does: Arm Architecture Reference Manual (SDOT and UDOT take
# four products per lane, SMMLA eight), Intel Architecture Instruction Set Extensions Reference (VPDPBUSD four).
INT8_PER_FP32 = {"i8mm": 8, "dotprod": 4, "avx_vnni": 4, "avx512_vnni": 4}


@dataclass(frozen=True)
class Core:
    """Of one core: fp32 operations per cycle (a multiply-add is two), the extensions it has, where that is said."""

    flops_per_cycle: int
    isa: frozenset[str]
    source: str


def _core(flops_per_cycle: int, isa: str, source: str) -> Core:
    return Core(flops_per_cycle, frozenset(isa.split()), source)


CORES = {
    "Cortex-A53": _core(8, "", "unverified: four multiply-adds a cycle, as the guide of the similar Cortex-A55 has it"),
    "Cortex-A57": _core(8, "", "data sheet: Arm Cortex-A57 Software Optimization Guide, FMLA Q-form 1 per cycle"),
    "Cortex-A72": _core(8, "", "data sheet: Arm Cortex-A72 Software Optimization Guide, FMLA Q-form 1 per cycle"),
    "Cortex-A76": _core(
        16, "dotprod fp16", "data sheet: Arm Cortex-A76 Software Optimization Guide, FMLA and UDOT 2 per cycle"
    ),
    "Cortex-A78AE": _core(
        16, "dotprod fp16", "data sheet: Arm Cortex-A78 Software Optimization Guide, FMLA and UDOT 2 per cycle"
    ),
    "Neoverse V3AE": _core(32, "dotprod fp16 i8mm bf16 sve2", "unverified: four vectors of 128 bits per cycle"),
    "Gracemont": _core(16, "avx2 avx_vnni", "unverified: two multiply-adds of 128 bits per cycle"),
    "Armv8.0": _core(8, "", "unverified: assumed as the Cortex-A53"),
    "x86-64": _core(16, "avx2", "unverified: assumed, one multiply-add of 256 bits per cycle"),
}
UNKNOWN = _core(8, "", "unverified: no profile names this core")


def core_named(name: str) -> Core:
    """What is known of a core; the least of all where nobody described it.

    >>> core_named("Cortex-A76").flops_per_cycle
    16
    """
    return CORES.get(name, UNKNOWN)


def int8_per_fp32(isa: frozenset[str]) -> int:
    """How many times faster than fp32 the extensions multiply int8; 1 without any for it.

    >>> int8_per_fp32(frozenset({"dotprod", "fp16"}))
    4
    """
    return max((times for name, times in INT8_PER_FP32.items() if name in isa), default=1)
