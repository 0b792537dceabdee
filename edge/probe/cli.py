"""`edgequilt devices probe`: what this board is and what nodes take here; nothing of it is sent anywhere."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from console.arguments import Arguments
from console.errors import EdgequiltError, UsageError
from console.progress import progress
from console.toml import read_toml
from devices.latency import Latency
from devices.profile import parse
from devices.profile_text import profile_text
from devices.times import UNKNOWN, Speed
from edge.probe.network import Link, link
from edge.probe.probe import Probe, Wanted
from edge.probe.probe import probe as look
from edge.probe.profile import HEAD, check_name, profile_of
from edge.trusted import open_named
from wire.bundle import MANIFEST
from wire.files import read_bytes, write_atomic
from wire.manifest import LIMIT_BYTES, parse_manifest
from wire.record import plain

if TYPE_CHECKING:
    from edge.config import Config

SECONDS, QUICK_SECONDS = 50.0, 8.0
STATE = Path("/var/lib/edgequilt")  # of an agent that was installed
NO_CONFIG = "give --config agent.toml of an agent"


def probe(argv: list[str]) -> int:
    """Measure, print, and save; returns the exit code.

    Raises:
        EdgequiltError: what is wrong with the command line, the bundle or a file that it names.
    """
    options = _parser().parse_args(argv)
    threads = _threads(options)
    budget_s = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    quiet = options.json
    bundles = open_named([options.bundle], options.trust, quiet=quiet) if options.bundle is not None else []
    known = _known(options.table) if options.table is not None else None
    if options.save is not None:
        _saveable(options.save)
    with progress("probing", budget_s, unit="seconds", quiet=quiet) as bar:
        folder, sent = _agent(options)
        wanted = Wanted(folder, () if known else threads, budget_s, (16 if options.quick else 64) << 20)
        found = look(wanted, sent, bar)
    latency = known or found.latency
    rows = []
    for bundle in bundles:
        from edge.probe.compared import compare

        rows = compare(bundle, _speed(found, latency), threads[0])
    if options.save is not None:
        write_atomic(options.save, profile_text(profile_of(found, options.save), HEAD).encode())
    if options.json:
        print(json.dumps({**found.as_json(), "bundle": plain(rows)}, indent=1, ensure_ascii=False))
        return 0
    from edge.probe.words import comparison, facts, latencies

    shown = [facts(found), latencies(found), comparison(rows) if rows else ""]
    print("\n\n".join(part for part in shown if part))
    if options.save is not None:
        print(f"\nsaved: {options.save}; use it with --profiles {options.save.parent} and the name {options.save.stem}")
    return 0


def _parser() -> argparse.ArgumentParser:
    p = Arguments(
        prog="edgequilt devices probe",
        description="Measure the board that this runs on: memory, cores, storage, network, and what nodes of models "
        "take. Nothing is sent anywhere.",
    )
    p.add_argument("--save", type=Path, metavar="NAME.toml", help="write what was found as a profile")
    p.add_argument("--bundle", type=Path, metavar="DIR", help="run a bundle: predicted time beside measured")
    p.add_argument("--trust", type=Path, metavar="publisher.pub", help="the publisher to believe")
    p.add_argument("--table", type=Path, metavar="NAME.toml", help="predict by this profile; no node is measured")
    p.add_argument(
        "--config", type=Path, metavar="agent.toml", help="of an agent: measure its disk, and what its hub sends"
    )
    p.add_argument("--folder", type=Path, metavar="DIR", help="whose disk is measured (default: the agent's state)")
    p.add_argument(
        "--threads", type=int, action="append", metavar="N", help="of the latency table; repeat (default: 1)"
    )
    p.add_argument("--seconds", type=float, metavar="S", help=f"for the latency table (default: {SECONDS:.0f})")
    p.add_argument(
        "--quick", action="store_true", help=f"{QUICK_SECONDS:.0f} seconds for the table, and less is written"
    )
    p.add_argument("--json", action="store_true", help="print JSON, and no progress")
    return p


def _threads(options: argparse.Namespace) -> list[int]:
    most = os.cpu_count() or 1
    threads = list(dict.fromkeys(options.threads or [1]))
    wrong = [count for count in threads if not 1 <= count <= most]
    if wrong:
        raise UsageError(f"expected --threads from 1 to {most}, which are the cores here, found {wrong[0]}")
    if options.seconds is not None and not 0 < options.seconds <= 3600:
        raise UsageError(f"expected --seconds from 1 to 3600, found {options.seconds:g}")
    return threads


def _known(path: Path) -> Latency:
    """The table of a profile that was saved."""
    found = parse(read_toml(path), path.stem, path.name).latency
    if found is None:
        raise UsageError(f"expected a profile with a latency table in {path}, found none; save one with --save")
    return found


def _saveable(path: Path) -> None:
    """Refuse a name before a minute is spent."""
    check_name(path)
    if not path.parent.is_dir():
        raise UsageError(f"expected --save in a folder that is there, found none at {path.parent}; make it")


def _agent(options: argparse.Namespace) -> tuple[Path, Link]:
    """The folder whose disk is measured, and what the agent's hub sends."""
    folder = options.folder
    if options.config is None:
        fallback = STATE if os.access(STATE, os.W_OK) else Path.cwd()
        return folder or (fallback if os.access(fallback, os.W_OK) else Path(tempfile.gettempdir())), Link(
            why=NO_CONFIG
        )
    from edge.config import read_config

    config = read_config(options.config)
    return folder or config.state, _sent(config)


def _sent(config: Config) -> Link:
    """By the address of the last assignment, a part of the bundle that was fetched."""
    from edge.fetching import hub_of
    from edge.shelf import Shelf

    shelf = Shelf(config.state)
    if shelf.kept.seen is None:
        return Link(why="the hub has assigned no bundle yet, and so has not said where it serves them")
    try:
        folder = shelf.folder(shelf.kept.current or shelf.kept.seen.bundle)
        manifest = parse_manifest(read_bytes(folder / MANIFEST, "a manifest", LIMIT_BYTES))
        return link(hub_of(config, shelf.kept.seen), manifest)
    except EdgequiltError as error:
        return Link(why=str(error))


def _speed(found: Probe, latency: Latency | None) -> Speed:
    """Of this machine; its rates stand in where the table says nothing."""
    return Speed(
        found.cpu.clock_hz * 8 if found.cpu.clock_hz else UNKNOWN.flops_per_s,
        found.copy_bytes_per_s,
        found.link.bytes_per_s or UNKNOWN.link_bytes_per_s,
        found.source,
        latency,
    )
