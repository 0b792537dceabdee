"""On which machine something was measured, as one line."""

from __future__ import annotations

from pathlib import Path

from export import measure

CPUINFO = Path("/proc/cpuinfo")
# what a kernel of 8 or 4 bits may use
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def machine() -> str:
    """Processor, its instructions that matter to small formats, kernel, runtime, threads."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    have = [name for name in INSTRUCTIONS if name in flags]
    model = facts.get("model name", "")
    return ", ".join(part for part in (model, " ".join(have), measure.machine(), "one thread") if part)
