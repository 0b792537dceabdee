"""What the graphs of a segment share: `python -m bench.sharing BUNDLE ... [--json FILE]`.

For each pair of graphs of a segment, of one bucket or of two: how many bytes of the weight file both read, and what
both take in one fresh process, each with a session of its own that has run, beside what each takes alone. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from bench.bundle_feeds import Values, feeds_of
from bench.open_graphs import FIELDS
from console.table import MIB, table
from export.measure import ROOT, environment
from wire.bundle import Bundle, open_bundle
from wire.manifest import Graph, Options, Segment
from wire.record import plain

TIMEOUT_S = 300
HEADER = ["graphs", "weights", "both read", "graph files", "anonymous", "both", "PSS", "both", "one more"]


@dataclass(frozen=True)
class Taken:
    """Above a process that has imported the runtime, in bytes."""

    anonymous: int
    file: int
    pss: int


@dataclass(frozen=True)
class Pair:
    """Two graphs of a segment. `weights` are bytes of the weight file that each reads, `both_read` that both do."""

    segment: str
    graphs: tuple[str, str]
    weights: tuple[int, int]
    both_read: int
    graph_files: tuple[int, int]
    alone: tuple[Taken, Taken]
    together: Taken

    @property
    def kept(self) -> str:
        """What kind of pair it is, for a summary."""
        (first, a), (second, b) = (name.split(" ") for name in self.graphs)
        return f"{first} and {second}, {'one bucket' if a == b else 'two buckets'}"

    def row(self) -> list[str]:
        """For a table with `HEADER`, in MiB."""
        one, two = self.alone
        more = self.together.pss - max(one.pss, two.pss)
        return [
            " + ".join(self.graphs),
            _two(self.weights),
            _mib(self.both_read),
            _two(self.graph_files),
            _two((one.anonymous, two.anonymous)),
            _mib(self.together.anonymous),
            _two((one.pss, two.pss)),
            _mib(self.together.pss),
            _mib(more),
        ]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.2f}"


def _two(sizes: Sequence[int]) -> str:
    return " + ".join(_mib(size) for size in sizes)


def regions(graph: Path) -> set[tuple[str, int, int]]:
    """File, offset and bytes of every tensor that a graph reads from beside it."""
    tensors = [v.const_value for v in ir.load(graph).graph.initializers.values()]
    found = [t for t in tensors if isinstance(t, ir.ExternalTensor)]
    return {(str(t.location), t.offset or 0, t.length or 0) for t in found}


def called(graph: Graph) -> str:
    """Kind and bucket."""
    return f"{graph.kind} {graph.bucket}"


def pairs(bundle: Bundle) -> list[Pair]:
    """Every pair of graphs of every segment."""
    fed = feeds_of(bundle)
    with tempfile.TemporaryDirectory(prefix="edgequilt-") as name:
        return [pair for segment in bundle.manifest.segments for pair in _pairs(bundle, segment, fed, Path(name))]


def _pairs(bundle: Bundle, segment: Segment, fed: Mapping[str, Values], work: Path) -> list[Pair]:
    read = {g.file: regions(bundle.path(g.file)) for g in segment.graphs}
    given = {g.file: (bundle.path(g.file), g.options, fed[g.file]) for g in segment.graphs}
    alone = {file: together([one], work) for file, one in given.items()}
    out = []
    for a, b in itertools.combinations(segment.graphs, 2):
        sizes = [sum(length for *_, length in read[g.file]) for g in (a, b)]
        common = sum(length for *_, length in read[a.file] & read[b.file])
        files = [bundle.path(g.file).stat().st_size for g in (a, b)]
        both = together([given[a.file], given[b.file]], work)
        names, beside = (called(a), called(b)), (alone[a.file], alone[b.file])
        out.append(Pair(segment.name, names, (sizes[0], sizes[1]), common, (files[0], files[1]), beside, both))
    return out


def together(graphs: Sequence[tuple[Path, Options, Values]], work: Path) -> Taken:
    """What some graphs take together in a fresh process.

    Args:
        graphs: file, session options and what is fed, of each.
        work: a folder for what the process reads.
    """
    spec = []
    for number, (path, options, fed) in enumerate(graphs):
        arrays: dict[str, Any] = dict(fed)
        np.savez(work / f"{number}.npz", **arrays)
        spec.append({"graph": str(path.resolve()), "options": plain(options), "feeds": str(work / f"{number}.npz")})
    (work / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-m", "bench.open_graphs", str(work / "spec.json")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    return Taken(**{name: figures[name] for name in FIELDS})


def summary(found: Sequence[Pair]) -> list[list[str]]:
    """Per kind of pair: the least share of the smaller's weights that both read, and what the second session adds."""
    kinds: dict[str, list[Pair]] = {}
    for pair in found:
        kinds.setdefault(pair.kept, []).append(pair)
    rows = []
    for kind, own in kinds.items():
        shares = [100 * pair.both_read / max(1, *pair.weights) for pair in own]
        anonymous = [pair.together.anonymous - max(t.anonymous for t in pair.alone) for pair in own]
        more = [pair.together.pss - max(t.pss for t in pair.alone) for pair in own]
        rows.append([kind, str(len(own)), f"{min(shares):.1f} %", _range(anonymous), _range(more)])
    return rows


def _range(sizes: Sequence[int]) -> str:
    return _mib(min(sizes)) if len(sizes) == 1 else f"{_mib(min(sizes))} to {_mib(max(sizes))}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="What graphs of a bundle share on disk and in memory (MiB).")
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, in bytes")
    given = parser.parse_args()
    everything: dict[str, Any] = {}
    for folder in given.bundles:
        bundle = open_bundle(folder, None)
        found = pairs(bundle)
        everything[bundle.folder.name] = [asdict(pair) for pair in found]
        print(f"{folder}: above the runtime, MiB")
        print(table(HEADER, [pair.row() for pair in found]))
        print(table(["pairs", "count", "same weights", "anonymous more", "PSS more"], summary(found)))
    if given.json is not None:
        given.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
