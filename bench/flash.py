"""What writing a card costs beside dd: `python -m bench.flash [--on FOLDER] [--size SIZE] [--turns N] [--quick]`.

An image of random bytes is written by `devices.flash.writing` (first MiB last) and read back past the cache, compared
and hashed; and by `dd` as a person would do both: `dd oflag=direct conv=fsync`, then `dd iflag=direct` into
`sha256sum`. Both write the same target, in turns whose order changes. Ratios are those of one turn; medians over turns.
Beside them dd alone, without a digest, which is what the target gives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from console.size import size_bytes
from console.table import table
from devices.flash import writing
from wire.files import write_atomic

CHUNK = 4 << 20
DD_PATH, SUM_PATH = "/usr/bin/dd", "/usr/bin/sha256sum"  # of coreutils
STEPS = ("write", "verify")
OURS, DD, BARE = "edgequilt", "dd, sha256sum", "dd alone"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What writing a card costs beside dd.")
    parser.add_argument("--on", type=Path, default=Path("build/bench"), help="a folder for image and target")
    parser.add_argument("--size", default="1GiB")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="64 MiB, two turns: that it runs")
    parser.add_argument("--out", type=Path, default=Path("build/bench/flash.json"))
    options = parser.parse_args()
    size, turns = (64 << 20, 2) if options.quick else (size_bytes(options.size), options.turns)
    options.on.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(dir=options.on) as name:
        image, target = Path(name) / "image", Path(name) / "target"
        digest = random_image(image, size)
        measured = [turn(image, target, digest, number) for number in range(turns)]
    rows = summary(measured, size)
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"{size >> 20} MiB, {turns} turns, {os.cpu_count()} cores, load before and after: {load[0]:.1f}, ", end="")
    print(f"{os.getloadavg()[0]:.1f}")
    report = {"size_bytes": size, "rows": rows, "turns": measured, "load": [load, os.getloadavg()]}
    write_atomic(options.out, json.dumps(report, indent=1).encode() + b"\n")
    return 0


def random_image(path: Path, size: int) -> str:
    """Bytes that nothing makes smaller; read once more by nobody, so that both find it in the cache."""
    found = hashlib.sha256()
    with path.open("wb") as file:
        for at in range(0, size, CHUNK):
            chunk = os.urandom(min(CHUNK, size - at))
            found.update(chunk)
            file.write(chunk)
        os.fsync(file.fileno())
    return found.hexdigest()


def turn(image: Path, target: Path, digest: str, number: int) -> dict[str, dict[str, float]]:
    """Seconds of each way and step; the order changes from turn to turn."""
    ways: dict[str, Callable[[Path, Path, str], dict[str, float]]] = {OURS: ours, DD: dd, BARE: bare}
    order = list(ways)[number % 3 :] + list(ways)[: number % 3]
    found = {}
    for way in order:
        target.unlink(missing_ok=True)
        os.sync()
        found[way] = ways[way](image, target, digest)
    return {way: found[way] for way in ways}


def ours(image: Path, target: Path, digest: str) -> dict[str, float]:
    """As `edgequilt flash` does it."""
    with writing.opened(target) as descriptor:
        began = time.monotonic()
        writing.write(image, descriptor)
        written = time.monotonic()
        sha256 = writing.verify(image, target)
        writing.finish(image, descriptor)
        writing.verify_first(image, target)
    _same(sha256, digest)
    return {"write": written - began, "verify": time.monotonic() - written}


def dd(image: Path, target: Path, digest: str) -> dict[str, float]:
    """As people do it: dd, and dd into sha256sum."""
    wrote = _written(image, target)
    began = time.monotonic()
    command = [DD_PATH, f"if={target}", "bs=4M", "iflag=direct", "status=none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reading:
        found = subprocess.run([SUM_PATH], stdin=reading.stdout, capture_output=True, text=True, check=True)
    _same(found.stdout.split()[0], digest)
    return {"write": wrote, "verify": time.monotonic() - began}


def bare(image: Path, target: Path, digest: str) -> dict[str, float]:
    """What the target gives: nothing is compared."""
    wrote, began = _written(image, target), time.monotonic()
    subprocess.run([DD_PATH, f"if={target}", "of=/dev/null", "bs=4M", "iflag=direct", "status=none"], check=True)
    return {"write": wrote, "verify": time.monotonic() - began}


def _written(image: Path, target: Path) -> float:
    began = time.monotonic()
    subprocess.run(
        [DD_PATH, f"if={image}", f"of={target}", "bs=4M", "oflag=direct", "conv=fsync", "status=none"], check=True
    )
    return time.monotonic() - began


def _same(found: str, wanted: str) -> None:
    if found != wanted:
        raise SystemExit(f"expected to read {wanted} back, found {found}")


def summary(turns: list[dict[str, dict[str, float]]], size: int) -> list[dict[str, str]]:
    """MiB a second, and how much longer we take than dd in the same turn."""
    rows = []
    for step in (*STEPS, "both"):
        row = {"step": step}
        seconds = {way: [_seconds(one[way], step) for one in turns] for way in turns[0]}
        for way, values in seconds.items():
            rates = [size / 2**20 / value for value in values]
            row[f"{way}, MiB/s"] = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        for way in (DD, BARE):
            ratios = [own / other for own, other in zip(seconds[OURS], seconds[way], strict=True)]
            row[f"time to {way}"] = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append(row)
    return rows


def _seconds(one: dict[str, float], step: str) -> float:
    return sum(one.values()) if step == "both" else one[step]


if __name__ == "__main__":
    raise SystemExit(main())
