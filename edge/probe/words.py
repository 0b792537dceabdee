"""What was found, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from console.table import mib, table
from devices.latency import RUN, Curve
from edge.probe.compared import Compared, together
from edge.probe.probe import Probe

SHOWN = 3  # sizes of an operator: the least, one between, the largest


def facts(found: Probe) -> str:
    """What is no latency."""
    cpu, ram, system = found.cpu, found.ram, found.system
    limit = f", {mib(ram.limit_bytes)} for this control group" if ram.limit_bytes else ""
    clock = f" at {cpu.clock_hz / 1e9:.2f} GHz" if cpu.clock_hz else ", clock unknown"
    rows = [
        ("board", system.board or cpu.model or "unknown"),
        ("system", f"{system.os}; Python {system.python}; glibc {system.glibc or 'none'}"),
        ("processor", f"{cpu.cores} x {cpu.core}{clock} ({cpu.architecture})"),
        ("extensions", ", ".join(cpu.isa) or "none that kernels use"),
        ("memory", f"{mib(ram.available_bytes)} available of {mib(ram.total_bytes)}{limit}"),
        ("copying", f"{_rate(found.copy_bytes_per_s)} by one core, {_rate(found.copy_together_bytes_per_s)} by all"),
        ("storage", _storage(found)),
        ("network", ", ".join(found.interfaces) or "no interface that is hardware"),
        ("hub", _hub(found)),
        ("onnxruntime", f"{system.onnxruntime}: {', '.join(system.providers)}"),
        ("heat", _heat(found)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _storage(found: Probe) -> str:
    if found.disk is None:
        return f"not measured: {found.disk_why}"
    disk = found.disk
    where = f" on {disk.device}" if disk.device else ""
    rates = f"writes {_rate(disk.write_bytes_per_s)}, reads {_rate(disk.read_bytes_per_s)}"
    return f"{rates}{where}, {mib(disk.free_bytes)} free"


def _hub(found: Probe) -> str:
    link = found.link
    answer = f", answers in {1000 * link.answer_s:.0f} ms" if link.answer_s is not None else ""
    return f"sends {_rate(link.bytes_per_s)}{answer}" if link.bytes_per_s else f"not measured{answer}: {link.why}"


def _heat(found: Probe) -> str:
    degrees, throttled = found.system.hottest_celsius, found.system.throttled
    told = "unknown" if degrees is None else f"{degrees:.0f} °C"
    return told + (f", throttled (0x{throttled:x})" if throttled else "")


def _rate(bytes_per_s: int | None) -> str:
    return "-" if bytes_per_s is None else f"{bytes_per_s / 1e6:.0f} MB/s"


def latencies(found: Probe) -> str:
    """A row per operator, format and number of threads."""
    if found.latency is None:
        return ""
    rows = [
        (curve.operator, curve.format, curve.threads, *(cell for at in _chosen(curve) for cell in _point(curve, at)))
        for curve in found.latency.curves
        if curve.operator != RUN
    ]
    heads = ["operator", "format", "threads", *["size", "us"] * SHOWN]
    run_ns, node_ns = found.latency.idle_ns()
    idle = f"a run takes {run_ns / 1000:.1f} us in any case, a node at least {node_ns / 1000:.1f} us"
    return f"{table(heads, rows)}\n{idle}"


def _chosen(curve: Curve) -> list[int]:
    last = len(curve.ns) - 1
    return [0, last // 2, last]


def _point(curve: Curve, at: int) -> tuple[str, str]:
    return "x".join(map(str, curve.shapes[at])), f"{curve.ns[at] / 1000:.1f}"


def comparison(rows: Sequence[Compared]) -> str:
    """Predicted beside measured, each graph and each step."""
    shown = list(rows)
    for step in dict.fromkeys(row.step for row in rows):
        whole = together(list(rows), step)
        shown += [] if whole is None else [whole]
    cells = [
        (
            row.step,
            row.file,
            _ms(row.predicted_ns),
            _ms(row.measured_ns),
            "-" if row.ratio is None else f"{row.ratio:.2f}",
        )
        for row in shown
    ]
    return table(["step", "graph", "predicted", "measured", "ratio"], cells)


def _ms(ns: int | None) -> str:
    return "-" if ns is None else f"{ns / 1e6:.2f} ms"
