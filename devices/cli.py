"""`edgequilt devices list | show NAME`: the boards that are known."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from console.arguments import Arguments
from console.table import mib, table
from devices.page import page
from devices.profile import Figure, Profile, load, names
from devices.speed import cpu_of
from devices.verdict import formats_line
from wire.record import plain


def main(argv: list[str]) -> int:
    """Print what was asked for; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.verb == "list":
        profiles = [load(name, arguments.profiles) for name in names(arguments.profiles)]
        print(_listed(profiles, arguments), end="" if arguments.markdown else "\n")
    else:
        profile = load(arguments.name, arguments.profiles)
        print(_json(_mapping(profile)) if arguments.json else _show(profile))
    return 0


def _parser() -> argparse.ArgumentParser:
    common = Arguments(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("--profiles", type=Path, metavar="FOLDER", help="a folder with profiles of your own")
    parser = Arguments(
        prog="edgequilt devices",
        description="The boards that edgequilt knows.",
        epilog="edgequilt devices fits MODEL_OR_BUNDLE says which of them a model fits; edgequilt devices probe "
        "measures the one that it runs on.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | show NAME")
    listed = verbs.add_parser("list", parents=[common], help="a row per board")
    listed.add_argument("--markdown", action="store_true", help="print a page like docs/boards.md")
    show = verbs.add_parser("show", parents=[common], help="all that is known of one board")
    show.add_argument("name", metavar="NAME")
    return parser


def _listed(profiles: list[Profile], arguments: argparse.Namespace) -> str:
    if arguments.markdown:
        return page(profiles)
    return _json([_mapping(p) for p in profiles]) if arguments.json else _list(profiles)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _mapping(profile: Profile) -> dict[str, Any]:
    """The profile as its file has it, and the budget that follows from it."""
    return {**plain(profile), "budget_bytes": profile.budget_bytes}


def _list(profiles: list[Profile]) -> str:
    rows = [
        [
            p.id,
            p.title,
            p.cores.value,
            mib(p.memory_available_bytes.value),
            mib(p.budget_bytes) if p.agent == "yes" else "-",
            p.memory_available_bytes.source.partition(":")[0],
            p.onnxruntime_max or "-",
            p.agent,
        ]
        for p in profiles
    ]
    return table(["name", "board", "cores", "available", "budget", "known by", "onnxruntime", "agent"], rows)


def _show(profile: Profile) -> str:
    facts = _facts(profile)
    widths = [max(len(fact[i]) for fact in facts) for i in range(2)]
    lines = [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}" for name, value, source in facts]
    return "\n".join([f"{profile.id}: {profile.title}", *_remarks(profile), "", *lines])


def _facts(profile: Profile) -> list[tuple[str, str, str]]:
    """What is known, as (what, value, source)."""
    cpu, connections, runtime = profile.sources.cpu, profile.sources.connections, profile.sources.runtime
    facts = [
        ("system", f"{profile.os}; Python {profile.python}", runtime),
        ("onnxruntime", _runtime(profile), runtime),
        ("processor", f"{profile.soc}: {profile.core} ({profile.architecture})", cpu),
        ("extensions", ", ".join(profile.isa) or "none that kernels use", cpu),
        *((name, _quantity(name, figure), figure.source) for name, figure in profile.figures().items()),
        ("training budget", mib(profile.budget_bytes), "available - 32 MiB - 15 %"),
        ("storage", ", ".join(profile.storage), connections),
        ("network", ", ".join(profile.network), connections),
        ("clock survives power cuts", "yes" if profile.rtc else "no", connections),
    ]
    if profile.latency is not None:
        curves = profile.latency.curves
        told = f"{len({curve.operator for curve in curves})} operators at {sum(len(c.ns) for c in curves)} sizes"
        facts.append(("latency table", told, profile.latency.source))
    extra = profile.accelerator
    return [*facts, ("accelerator", f"{extra.name}; {extra.use}", extra.source)] if extra else facts


def _remarks(profile: Profile) -> list[str]:
    verdict = "an agent runs there" if profile.agent == "yes" else f"no agent: {profile.agent_reason}"
    cpu = cpu_of(profile)
    formats = [f"formats, {rows}: {formats_line(count, cpu)}" for rows, count in (("one row", 1), ("128 rows", 128))]
    return [f"{verdict} (known from: {profile.support})", *formats, "(estimated: docs/speed.md)", *profile.notes]


def _runtime(profile: Profile) -> str:
    newest = f"up to {profile.onnxruntime_max}" if profile.onnxruntime_max else "none"
    avoid = f", not {', '.join(profile.onnxruntime_avoid)}" if profile.onnxruntime_avoid else ""
    return newest + avoid


def _quantity(name: str, figure: Figure) -> str:
    """A number as people read it, by the unit in its name.

    >>> _quantity("clock_hz", Figure(1_430_000_000, "unverified"))
    '1.43 GHz'
    """
    if name.endswith("_bytes_per_s"):
        return f"{figure.value / 1e9:.2f} GB/s"
    if name.endswith("_bytes"):
        return mib(figure.value)
    return f"{figure.value / 1e9:.2f} GHz" if name.endswith("_hz") else str(figure.value)
