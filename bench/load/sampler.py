"""Watches processes from outside: `python -m bench.load.sampler FILE PID...` writes a JSON line per look until ended.

A process of its own, since what a thread of the load would take would be the load's.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.load.processes import CLIENT_CORE, child, cpu_s, name_of, pss_bytes, tree

EVERY_S = 0.05


@dataclass
class Series:
    """What processes took: by time (CLOCK_MONOTONIC), by process: seconds of the processor, PSS, its anonymous part."""

    looks: list[tuple[float, dict[str, tuple[float, int, int]]]] = field(default_factory=list)

    def cpu_s(self, begin: float, end: float) -> float:
        """Of all processes in a span; one that has ended keeps what it had."""
        return sum(self.by_process(begin, end).values())

    def by_process(self, begin: float, end: float) -> dict[str, float]:
        """The same, process by process."""
        before, after = dict[str, float](), dict[str, float]()
        for at, found in self.looks:
            for name, (cpu, *_) in found.items():
                if at <= begin:
                    before[name] = cpu
                if at <= end:
                    after[name] = max(cpu, after.get(name, 0.0))
        return {name: cpu - before.get(name, 0.0) for name, cpu in after.items()}

    def peak_pss(self, begin: float, end: float) -> int:
        """The largest sum of all processes in a span."""
        return max(
            (sum(pss for _, pss, _ in found.values()) for at, found in self.looks if begin <= at <= end), default=0
        )

    def peak_anonymous(self, begin: float, end: float) -> int:
        """The same of what is not in files: pages of a database that is mapped can be given up at any time."""
        return max((sum(a for *_, a in found.values()) for at, found in self.looks if begin <= at <= end), default=0)

    def peak_of(self, pid: int, begin: float, end: float) -> int:
        """The largest PSS of one process in a span."""
        seen = (found for at, found in self.looks if begin <= at <= end)
        return max(
            (pss for found in seen for who, (_, pss, _) in found.items() if who.split()[0] == str(pid)), default=0
        )


@contextlib.contextmanager
def sampled(path: Path, *pids: int) -> Iterator[None]:
    """Have processes and their descendants watched during the block; `read_series` has what was seen."""
    with child([sys.executable, "-m", "bench.load.sampler", path, *map(str, pids)], CLIENT_CORE):
        yield


def read_series(path: Path) -> Series:
    """What was seen."""
    series = Series()
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # the last line may be torn
            at, found = json.loads(line)
            series.looks.append((at, {name: (cpu, pss, anonymous) for name, (cpu, pss, anonymous) in found.items()}))
    return series


def main(path: str, *roots: str) -> None:
    """Look until ended."""
    with Path(path).open("a", buffering=1) as out:
        while True:
            pids = {pid for root in roots for pid in tree(int(root))}
            found = {f"{pid} {name_of(pid)}": (cpu_s(pid), pss_bytes(pid), pss_bytes(pid, "Pss_Anon:")) for pid in pids}
            out.write(json.dumps((time.monotonic(), found)) + "\n")
            time.sleep(EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
