"""The tables of what was measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from bench.load.results import drawn, spread

MIB, HUB = 1024 * 1024, "hub"
HEADER = [
    "nodes", "", "round s", "updates per s", "server CPU ms an update", "clients CPU ms an update",
    "server peak PSS MiB", "of it anonymous MiB", "KiB a further node", "rounds",
]  # fmt: skip
BYTES = ["", "payload a round and way KiB", "up KiB", "up / payload", "down KiB", "down / payload"]
RATIOS = [
    "nodes",
    "best arm",
    "updates per s, hub / best",
    "server CPU an update, best / hub",
    "memory a further node, best / hub",
]


def tables(found: dict[str, Any], *, markdown: bool = False) -> str:
    """Rounds, the hub against Flower's best arm, bytes."""
    cells = found.get("cells", {}).values()
    rounds = [c for c in cells if not c["counted"]]
    late = [c for c in rounds if not c["rounds"]]
    rounds = [c for c in rounds if c["rounds"]]
    parts = []
    for payload in sorted({c["payload_bytes"] for c in rounds}):
        own = sorted((c for c in rounds if c["payload_bytes"] == payload), key=lambda c: c["nodes"])
        parts += [
            f"{payload:,} bytes of numbers each way; {about(own)}",
            drawn(HEADER, [row(c, own) for c in own], markdown=markdown),
        ]
        parts.append(drawn(RATIOS, ratios(own), markdown=markdown))
    parts += [f"no round ended in {c['more_than_s']:.0f} s: Flower, {c['side']}, {c['nodes']} nodes" for c in late]
    counted = [c for c in cells if c["counted"]]
    if counted:
        parts += [
            "4 nodes, bytes of TCP between clients and server",
            drawn(BYTES, [carried(c) for c in counted], markdown=markdown),
        ]
    return "\n\n".join(parts)


def about(cells: list[dict[str, Any]]) -> str:
    """Where and with what."""
    loads = [c["machine"]["load"] for c in cells]
    versions = ", ".join(f"{what} {which}" for what, which in cells[0]["versions"].items())
    machine = cells[0]["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, load before: {min(loads)} to {max(loads)}; {versions}"


def rate(cell: dict[str, Any]) -> float:
    """Updates per second, of the median round."""
    return float(median(r["updates"] / r["s"] for r in cell["rounds"]))


def further(cell: dict[str, Any], cells: list[dict[str, Any]]) -> float | None:
    """Bytes for every node beyond the fewest of the same side."""
    first = min((c for c in cells if c["side"] == cell["side"]), key=lambda c: c["nodes"])
    more = cell["nodes"] - first["nodes"]
    return (cell["peak_pss_bytes"] - first["peak_pss_bytes"]) / more if more else None


def row(cell: dict[str, Any], cells: list[dict[str, Any]]) -> list[str]:
    """One cell."""
    extra, updates = further(cell, cells), cell["rounds"][0]["updates"]
    return [
        str(cell["nodes"]),
        cell["side"] if cell["side"] == HUB else f"Flower, {cell['side']}",
        spread([r["s"] for r in cell["rounds"]]),
        spread([r["updates"] / r["s"] for r in cell["rounds"]], 1),
        f"{1e3 * cell['server_cpu_s_an_update']:.1f}",
        f"{1e3 * cell['clients_cpu_s_a_round'] / max(1, updates):.1f}",
        f"{cell['peak_pss_bytes'] / MIB:.0f}",
        f"{cell['peak_anonymous_bytes'] / MIB:.0f}",
        "-" if extra is None else f"{extra / 1024:.0f}",
        str(len(cell["rounds"])),
    ]


def ratios(cells: list[dict[str, Any]]) -> list[list[str]]:
    """The hub against the best that Flower does, number by number: not always the same arm."""
    found = []
    for nodes in sorted({c["nodes"] for c in cells}):
        own = next((c for c in cells if c["nodes"] == nodes and c["side"] == HUB), None)
        theirs = [c for c in cells if c["nodes"] == nodes and c["side"] != HUB]
        if own is None or not theirs:
            continue
        best, cpu = max(theirs, key=rate), min(c["server_cpu_s_an_update"] for c in theirs)
        extra, least = further(own, cells), [x for c in theirs if (x := further(c, cells)) is not None]
        memory = f"{min(least) / extra:.1f}" if extra is not None and extra > 0 and least else "-"
        speed = f"{rate(own) / rate(best):.1f}"
        found.append([str(nodes), best["side"], speed, f"{cpu / own['server_cpu_s_an_update']:.1f}", memory])
    return found


def carried(cell: dict[str, Any]) -> list[str]:
    """Bytes of a round, both ways."""
    up, down = (median(r[f"bytes_{way}"] for r in cell["rounds"]) for way in ("up", "down"))
    payload = cell["payload_bytes"] * cell["nodes"]
    name = cell["side"] if cell["side"] == HUB else f"Flower, {cell['side']}"
    shown = [f"{n / 1024:.0f}" for n in (payload, up, down)]
    return [name, shown[0], shown[1], f"{up / payload:.2f}", shown[2], f"{down / payload:.2f}"]
