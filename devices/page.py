"""What is known of boards, as a page of Markdown: docs/boards.md is this of the profiles that come with edgequilt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from console.table import mib
from devices.profile import Profile

CPU = "CPUExecutionProvider"
HEADER = """# Boards

```
edgequilt devices list --markdown      # this page, from the profiles in devices/profiles
edgequilt devices show NAME            # one board, every number with its source
edgequilt devices fits MODEL_OR_BUNDLE  # which boards it fits, in how many segments; --device NAME for some
```

A profile is a TOML file; `--profiles FOLDER` adds some of your own, which come first. Every number has a source:
*measured* (where it was read), *emulated*, *data sheet*, or *unverified*. *Known from* says how far agents were run:
*measured* on such a board, *emulated* on its core under QEMU ([emulated.md](emulated.md)), or *data sheet* for
neither. Memory is what Linux says of itself; the budget is what a training worker may take at its peak (available −
32 MiB − 15 %).
"""


def page(profiles: list[Profile]) -> str:
    """The page, whatever the order of the profiles."""
    known = sorted(profiles, key=lambda profile: profile.id)
    parts = [HEADER, _boards(known), _providers(known), _without(known), _unverified(known)]
    return "\n".join(part for part in parts if part)


def _boards(profiles: list[Profile]) -> str:
    rows = [
        (
            f"`{p.id}`",
            p.title,
            f"{p.cores.value} × {p.core}",
            mib(p.memory_total_bytes.value),
            mib(p.memory_available_bytes.value),
            p.memory_available_bytes.source.partition(":")[0],
            mib(p.budget_bytes) if p.agent == "yes" else "–",
            p.onnxruntime_max or "–",
            p.support,
        )
        for p in profiles
    ]
    heads = ("name", "board", "cores", "memory", "available", "by", "budget", "onnxruntime up to", "known from")
    return _table(heads, rows)


def _providers(profiles: list[Profile]) -> str:
    others, accelerators = defaultdict(list), defaultdict(list)
    for p in profiles:
        for provider in p.providers:
            if provider != CPU:
                others[f"`{provider}`"].append(p.id)
        if p.accelerator:
            accelerators[f"{p.accelerator.name} ({p.accelerator.use})"].append(p.id)
    lines, extras = _boards_by(others), _boards_by(accelerators)
    said = "Agents compute with the `CPUExecutionProvider` everywhere."
    if lines:
        said += (
            " Others are used where `providers` in agent.toml asks for them and the board's own onnxruntime has them "
            "(the wheel of the board's maker: that of the package index has the CPU only). None of them was run by us, "
            "and predictions of memory and time are for the CPU:"
        )
    return "\n".join(["## Execution providers", "", said, "", *lines, *extras, ""])


def _without(profiles: list[Profile]) -> str:
    lines = [f"* `{p.id}`: {p.agent_reason}." for p in profiles if p.agent == "no"]
    return "\n".join(["## Boards on which no agent runs", "", *lines, ""]) if lines else ""


def _unverified(profiles: list[Profile]) -> str:
    found = defaultdict(list)
    for p in profiles:
        for name, figure in p.figures().items():
            if figure.source.startswith("unverified"):
                found[name].append(p.id)
    lines = _boards_by(found)
    return "\n".join(["## Numbers without a source that could be checked", "", *lines, ""]) if lines else ""


def _boards_by(found: Mapping[str, list[str]]) -> list[str]:
    return [f"* {what}: {', '.join(f'`{name}`' for name in names)}." for what, names in sorted(found.items())]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
