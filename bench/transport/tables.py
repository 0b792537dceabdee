"""The tables of what was measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from bench.load.results import drawn, spread

MIB = 1024 * 1024
HEADER = [
    "", "updates per s", "hub CPU ms", "broker CPU ms", "load CPU ms", "p50 ms", "p95 ms",
    "alone p50 ms", "hub peak PSS MiB", "broker peak PSS MiB", "asked again",
]  # fmt: skip


def tables(found: dict[str, Any], *, markdown: bool = False) -> str:
    """One table for each cell: medians (and ranges of rates and times), and the hub over the floor."""
    return "\n\n".join(
        f"{about(name, cell)}\n\n{drawn(HEADER, rows(cell), markdown=markdown)}"
        for name, cell in found.get("cells", {}).items()
    )


def about(name: str, cell: dict[str, Any]) -> str:
    """What the table is of."""
    kind = "TLS, client certificates, access list" if cell["broker"] == "TLS" else "no TLS, no access list"
    versions = ", ".join(f"{what} {which}" for what, which in cell["versions"].items())
    return (
        f"{cell['clients']} boards with {cell['update_bytes']:,} bytes each, mosquitto with {kind}; "
        f"{len(cell['turns']['hub'])} repeats, load of the machine before: {cell['machine']['load']}; {versions}"
    )


def rows(cell: dict[str, Any]) -> list[list[str]]:
    """Hub, floor, and one over the other."""
    turns = cell["turns"]
    found = [numbers(turns[side], turns.get(f"{side} alone", [])) for side in ("hub", "floor")]
    shown = [
        [name, *(spread(v, digits(v)) for v in side)] for name, side in zip(("hub", "paho alone"), found, strict=True)
    ]
    ratios = [ratio(ours, floor) for ours, floor in zip(*found, strict=True)]
    return [*shown, ["hub / paho alone", *ratios]]


def numbers(turns: list[dict[str, Any]], alone: list[dict[str, Any]]) -> list[list[float]]:
    """Column by column, repeat by repeat; CPU is of one update."""
    return [
        [t["updates"] / t["wall_s"] for t in turns],
        [1e3 * t["server_cpu_s"] / t["updates"] for t in turns],
        [1e3 * t["broker_cpu_s"] / t["updates"] for t in turns],
        [1e3 * t["load_cpu_s"] / t["updates"] for t in turns],
        [1e3 * t["p50_s"] for t in turns],
        [1e3 * t["p95_s"] for t in turns],
        [1e3 * t["p50_s"] for t in alone],
        [t["server_pss_bytes"] / MIB for t in turns],
        [t["broker_pss_bytes"] / MIB for t in turns],
        [float(t["asked_again"]) for t in turns],
    ]


def digits(values: list[float]) -> int:
    """As many as such numbers deserve."""
    return 0 if not values or median(values) >= 100 or max(values) == 0 else 1 if median(values) >= 1 else 2


def ratio(ours: list[float], floor: list[float]) -> str:
    """Of the medians."""
    return f"{median(ours) / median(floor):.2f}" if ours and floor and median(floor) > 0 else "-"
