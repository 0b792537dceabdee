"""The processor, as Linux tells of it: proc(5) cpuinfo, the auxiliary vector, sysfs; on Arm and x86-64."""

from __future__ import annotations

import os
import platform
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# What profiles call extensions that matter to kernels, by the kernel's words for them.
EXTENSIONS = {
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "aes": "aes",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx_vnni": "avx_vnni",
    "avx512_vnni": "avx512_vnni",
}
# Bits of AT_HWCAP and AT_HWCAP2 on arm64 (Linux, Documentation/arch/arm64/elf_hwcaps.rst), where cpuinfo says nothing.
HWCAP = {3: "aes", 10: "asimdhp", 20: "asimddp", 22: "sve"}
HWCAP2 = {1: "sve2", 13: "i8mm", 14: "bf16"}
AT_HWCAP, AT_HWCAP2 = 16, 26
# Part numbers of Arm's own cores (Linux, arch/arm64/include/asm/cputype.h).
ARM = "0x41"
PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse N1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd83": "Neoverse V3AE",
}
X86 = "x86-64"


@dataclass(frozen=True)
class Cpu:
    """The cores: `core` is what most of them are, `cores` how many this process may use."""

    architecture: str
    core: str
    isa: tuple[str, ...]
    cores: int
    clock_hz: int | None
    model: str = ""


def cpu(root: Path = Path("/"), architecture: str = "") -> Cpu:
    """Look; `root` is where proc and sys are, the architecture that of this machine where none is given."""
    kind = architecture or platform.machine()
    blocks = _blocks(_text(root / "proc/cpuinfo"))
    flags = {word for block in blocks for key in ("Features", "flags") for word in block.get(key, "").split()}
    if not flags and kind == "aarch64":
        flags = _auxiliary(root / "proc/self/auxv")
    parts = Counter(
        (b["CPU implementer"], b["CPU part"]) for b in blocks if {"CPU implementer", "CPU part"} <= b.keys()
    )
    names = Counter(b["model name"] for b in blocks if "model name" in b)
    core = _named(*parts.most_common(1)[0][0]) if parts else X86 if kind == "x86_64" else "unknown"
    isa = tuple(name for word, name in EXTENSIONS.items() if word in flags)
    model = names.most_common(1)[0][0] if names else ""
    return Cpu(kind, core, isa, _count(blocks, root), _clock(blocks, root), model)


def _named(implementer: str, part: str) -> str:
    """As profiles call it; its numbers where it is not known."""
    return PARTS.get(part, f"part {part}") if implementer == ARM else f"implementer {implementer}, part {part}"


def _count(blocks: list[dict[str, str]], root: Path) -> int:
    """Of those that are there, those that this process may use."""
    if root == Path("/"):
        return len(os.sched_getaffinity(0))
    return max(1, sum("processor" in block for block in blocks))


def _clock(blocks: list[dict[str, str]], root: Path) -> int | None:
    """The highest that any core goes to; None where the kernel does not say."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    found = [1000 * int(text) for path in files if (text := _text(path).strip()).isdigit()]
    found += [int(float(b["cpu MHz"]) * 1e6) for b in blocks if b.get("cpu MHz", "").replace(".", "", 1).isdigit()]
    return max(found, default=None)


def _blocks(text: str) -> list[dict[str, str]]:
    """Blocks of `key : value`, apart from each other by empty lines; one per core, and others."""
    out = []
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        out.append({key.strip(): value.strip() for key, _, value in pairs})
    return [block for block in out if block]


def _auxiliary(path: Path) -> set[str]:
    """What the kernel tells every process of its processor (getauxval(3))."""
    try:
        data = path.read_bytes()
    except OSError:
        return set()
    size = struct.calcsize("QQ")
    pairs = dict(struct.iter_unpack("QQ", data[: len(data) // size * size]))
    bits = ((pairs.get(AT_HWCAP, 0), HWCAP), (pairs.get(AT_HWCAP2, 0), HWCAP2))
    return {name for value, named in bits for bit, name in named.items() if value >> bit & 1}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
