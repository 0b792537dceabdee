"""What a cell has found: rounds of one side, and what its server took for them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.load.sampler import Series


@dataclass(frozen=True)
class Round:
    """From the moment at which nodes are asked to the moment at which there is one adapter; CLOCK_MONOTONIC."""

    began: float
    ended: float
    updates: int
    bytes_up: int = 0
    bytes_down: int = 0


def summed(rounds: list[Round], series: Series, nodes: int, clients_cpu_s: float) -> dict[str, Any]:
    """The rounds that count, and what the server's processes took for them.

    Args:
        rounds: in order.
        series: of the server's processes.
        nodes: how many there were.
        clients_cpu_s: of the clients, for one round.
    """
    found = []
    for one in rounds:
        cpu = series.cpu_s(one.began, one.ended)
        found.append({**asdict(one), "s": one.ended - one.began, "server_cpu_s": cpu})
    begin, end = rounds[0].began, rounds[-1].ended
    updates = sum(one.updates for one in rounds)
    return {
        "nodes": nodes,
        "rounds": found,
        "server_cpu_s_an_update": series.cpu_s(begin, end) / max(1, updates),
        "by_process": series.by_process(begin, end),
        "peak_pss_bytes": series.peak_pss(begin, end),
        "peak_anonymous_bytes": series.peak_anonymous(begin, end),
        "clients_cpu_s_a_round": clients_cpu_s,
    }
