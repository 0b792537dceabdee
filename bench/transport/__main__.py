"""`python -m bench.transport [--only 'SIZE BROKER'] [--repeats N] [--quick]`: the hub over mosquitto, and the floor.

200 boards with 10 KB each and 20 with 2.4 MB each, over mosquitto as the hub starts it (TLS, client certificates, an
access list) and bare. All send at once, then twenty one after the other. Servers on core 0, load on core 1. What is
in the file already is kept, so that a run that was cut short goes on; `--markdown FILE` prints tables of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.load.hub import LARGE, SMALL
from bench.load.processes import CLIENT_CORE, machine, pin
from bench.load.results import keep, put_between, read, versions
from bench.transport.measure import cell
from bench.transport.tables import tables

CELLS = {
    f"{shape.name} {broker}": (shape, count, broker)
    for broker in ("TLS", "bare")
    for shape, count in ((SMALL, 200), (LARGE, 20))
}
QUICK = {SMALL.name: 8, LARGE.name: 2}


def main() -> int:
    """Measure cell by cell, write each down, print."""
    p = argparse.ArgumentParser(description="The hub over mosquitto, against paho alone.")
    p.add_argument("--only", nargs="*", choices=sorted(CELLS), metavar="CELL", help=", ".join(CELLS))
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--quick", action="store_true", help="few clients, two repeats: does it run?")
    p.add_argument("--limit-s", type=float, default=720.0, help="begin no cell after so many seconds")
    p.add_argument("--again", action="store_true", help="measure also what the file has")
    p.add_argument("--out", type=Path, default=Path("build/bench/transport.json"))
    p.add_argument("--markdown", type=Path, metavar="FILE", help="only print tables of a file, as Markdown")
    p.add_argument("--into", type=Path, metavar="docs/load.md", help="with --markdown: put them where they belong")
    options = p.parse_args()
    if options.markdown:
        text = tables(read(options.markdown), markdown=True)
        if options.into:
            put_between(options.into, "transport", text)
        else:
            print(text)
        return 0
    pin(CLIENT_CORE)
    ends = time.monotonic() + options.limit_s
    for name in options.only or CELLS:
        if (name in read(options.out).get("cells", {}) and not options.again) or time.monotonic() > ends:
            continue
        shape, count, broker = CELLS[name]
        count, repeats = (QUICK[shape.name], 2) if options.quick else (count, options.repeats)
        about = {"machine": machine(), "versions": versions()}
        with tempfile.TemporaryDirectory() as folder:
            found = cell(Path(folder), shape, count, broker, repeats)
        keep(options.out, name, {**found, **about})
        print(json.dumps({"cell": name}), file=sys.stderr, flush=True)
    print(tables(read(options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
