"""What it costs to carry numbers between a front and its tail: `python -m bench.crossings [--out FILE.json]`.

Two agents on this machine, in one process, and their workers, which compute nothing: one says notes of so many bytes
and waits for each answer of the same size (`round trip`, the median), or is four ahead (`both ways`, bytes of both
directions). Through mosquitto with TLS and the access list as the hub starts it, and by a direct TLS connection beside
it. Then what a signature costs: processor time for sealing and for checking one part of 512 KiB.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from console.table import table
from edge.config import Config
from edge.split.table import Door
from tests.edge.split.places import BARN, COOP, ByBroker, Two, make_boards
from wire.envelope import Trust, seal, unseal
from wire.files import write_atomic
from wire.keys import new_key
from wire.messages import PART_LIMIT_BYTES

SIZES = {"1 KiB": 1 << 10, "48 KiB": 48 << 10, "192 KiB": 192 << 10, "2 MiB": 2 << 20}
NOTES, AHEAD, PORT = 40, 4, 28886
PATIENCE_S = 300.0


class ByBoth(ByBroker):
    """mosquitto with TLS, and a tail that listens."""

    def configured(self, config: Config) -> Config:
        """With certificates; the tail listens."""
        at = self.place.folder
        ca, own, key = (at / name for name in ("ca.pem", f"{config.name}.pem", f"{config.name}.tls.key"))
        broker = replace(config.broker, ca=str(ca), certificate=str(own), key=str(key))
        door = Door("127.0.0.1", PORT, f"127.0.0.1:{PORT}", ca, own, key)
        return replace(config, broker=broker, split=door if config.name == COOP else None)


class Running(Two):
    """Both agents, each in a thread of its own from now on."""

    def begin(self) -> None:
        """Let them run."""
        self._stop, self._threads = threading.Event(), []
        for core in self.cores.values():
            self._threads.append(threading.Thread(target=core.run, args=(self._stop,), daemon=True))
            self._threads[-1].start()

    def measured(self, job: str, size: int, ahead: int, way: str) -> dict[str, float]:
        """Seconds of a job, as its board's worker took them: in all, and of a note in the middle of the others."""
        for name in (BARN, COOP):
            play = {"notes": NOTES, "bytes": size, "ahead": ahead, "pause_s": 1.0}
            self.cores[name].call(lambda name=name, play=play: self.ask(name, job, **play))  # type: ignore[misc]  # bound here
        ends_at, ways = time.monotonic() + PATIENCE_S, set[str]()
        while self.cores[BARN].status.jobs.get(job, {}).get("state") != "waiting":
            if time.monotonic() > ends_at:
                raise SystemExit(f"expected {job} within {PATIENCE_S:.0f} s: {self.told()}")
            ways |= {one["way"] for one in self.counts(BARN).get("now", []) if one["met"]}
            time.sleep(0.02)
        if way not in ways:
            raise SystemExit(f"expected messages to go by {way}, found {ways}")
        told = self.cores[BARN].status.jobs[job]
        return {name: float(told[name]) for name in ("seconds", "median_s")}

    def finish(self) -> None:
        """End their threads."""
        self._stop.set()
        for core in self.cores.values():
            core.wake()
        for thread in self._threads:
            thread.join(10)


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    p = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    p.add_argument("--out", type=Path, default=Path("build/bench/crossings.json"))
    options = p.parse_args(argv)
    found: dict[str, Any] = {"notes": NOTES, "ahead": AHEAD, "ways": {}, **_signature()}
    for way, kind in (("broker", ByBroker), ("direct", ByBoth)):
        with tempfile.TemporaryDirectory() as folder:
            found["ways"][way] = _measured(way, kind, Path(folder))
    rows = [
        [name, *(f"{found['ways'][way][name][what]:.1f}" for way in ("broker", "direct") for what in ("ms", "mb_s"))]
        for name in SIZES
    ]
    head = ["note", "broker: round trip, ms", "both ways, MB/s", "direct: round trip, ms", "both ways, MB/s"]
    print(table(head, rows))
    print(f"a part of 512 KiB: signed in {found['sign_ms']:.1f} ms, checked in {found['check_ms']:.1f} ms")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, json.dumps(found, indent=1).encode() + b"\n")


def _measured(way: str, kind: Any, folder: Path) -> dict[str, Any]:
    two = Running(kind(folder / "place"), make_boards(folder / "boards"), 1.0)
    two.begin()
    found = {}
    try:
        two.measured("r0-train-barn", 1, 0, way)  # both workers start
        for number, (name, size) in enumerate(SIZES.items()):
            alone = two.measured(f"r1-{number}", size, 0, way)
            ahead = two.measured(f"r2-{number}", size, AHEAD, way)
            found[name] = {"ms": 1e3 * alone["median_s"], "mb_s": 2 * NOTES * size / ahead["seconds"] / 1e6}
    finally:
        two.finish()
        two.close()
        two.place.close()
    return found


def _signature() -> dict[str, float]:
    key, part, times = new_key("device", BARN), bytes(PART_LIMIT_BYTES), 40
    trust, begun = Trust([key.public]), time.process_time()
    for _ in range(times):
        sealed = seal(key, part)
    between = time.process_time()
    for _ in range(times):
        unseal(sealed, "device", trust, "a part")
    done = time.process_time()
    return {"sign_ms": 1e3 * (between - begun) / times, "check_ms": 1e3 * (done - between) / times}


if __name__ == "__main__":
    main()
