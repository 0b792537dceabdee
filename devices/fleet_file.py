"""FLEET.toml: which devices there are, and which of them run one model together (docs/fleet.md).

A device is a board's entry in a fleet. One that nothing else names gets a complete bundle; the devices of a chain get
one stage each, in the chain's order, those of a split a front each, and one the tail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from console.errors import BadData, EdgequiltError, UsageError, join
from console.size import size_bytes
from console.toml import read_toml
from devices.fleet import RATES, BoardChain, Fleet, Settings, station, without_speeds
from devices.fleet_splits import SplitEntry, split_of, split_problems
from devices.profile import VERSION
from devices.ranks import MOST_RANK
from devices.stages import Station
from devices.times import UNKNOWN, Speed
from wire.record import NAME, at_least, matching, read_record


@dataclass(frozen=True)
class DeviceEntry:
    """One `[[device]]`: a profile, a budget, or both; the rates are those of one core."""

    name: str = field(metadata=matching(NAME))
    profile: str = ""
    budget: Any = None  # bytes, or a text such as 200MiB
    mode: Literal["train", "serve", "train-forward"] | None = None
    quant: str | None = None
    rank: int | None = field(default=None, metadata=at_least(1, MOST_RANK))
    onnxruntime_max: str | None = field(default=None, metadata=matching(VERSION))
    flops_per_s: int | None = field(default=None, metadata=at_least(1))
    bytes_per_s: int | None = field(default=None, metadata=at_least(1))
    link_bytes_per_s: int | None = field(default=None, metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChainEntry:
    """One `[[chain]]`: devices in the order in which they run."""

    name: str = field(metadata=matching(NAME))
    devices: tuple[str, ...]
    objective: Literal["fewest", "traffic", "throughput", "latency"] = "fewest"
    links_bytes_per_s: tuple[int, ...] = field(default=(), metadata=at_least(1))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetFile:
    """The whole file."""

    device: tuple[DeviceEntry, ...]
    chain: tuple[ChainEntry, ...] = ()
    split: tuple[SplitEntry, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def read_fleet(path: Path, settings: Settings) -> Fleet:
    """Read a fleet.

    Args:
        path: a TOML file as in docs/fleet.md.
        settings: what devices have that say nothing else.

    Raises:
        UsageError: naming every field that is absent, wrong or not known, and every contradiction.
        BadData: it is not TOML.
        StorageError: it cannot be read.
    """
    file, stations = _read(path, settings)
    chains = tuple(_chain(entry, stations) for entry in file.chain)
    splits = tuple(split_of(entry, stations) for entry in file.split)
    elsewhere = {name for entry in file.chain for name in entry.devices}
    elsewhere |= {name for entry in file.split for name in (*entry.devices, entry.tail)}
    return Fleet(tuple(s.board for name, s in stations.items() if name not in elsewhere), chains, splits)


def read_stations(path: Path, settings: Settings) -> dict[str, Station]:
    """The devices of a fleet that nothing has put together yet, with their speed, by name.

    Raises:
        UsageError: as `read_fleet`; also where chains or splits say already who runs what of a model.
        BadData, StorageError: as `read_fleet`.
    """
    file, stations = _read(path, settings)
    together = [f"chain {c.name}" for c in file.chain] + [f"split of tail {s.tail}" for s in file.split]
    if together:
        raise UsageError(
            f"expected devices alone in {path}, found {join(together)}; a plan of a fleet decides who holds what: "
            "leave them out, or use edgequilt export --fleet"
        )
    return stations


def _read(path: Path, settings: Settings) -> tuple[FleetFile, dict[str, Station]]:
    """The file without problems, and the boards of its devices."""
    tables = read_toml(path)
    try:
        file = read_record(FleetFile, tables, str(path))
    except BadData as error:
        raise UsageError(str(error)) from error
    stations: dict[str, Station] = {}
    problems = list(_unknown(file))
    for entry in file.device:
        made = _tried(entry, settings)
        if isinstance(made, Station):
            stations[entry.name] = made
        else:
            problems.append(made)
    problems += _contradictions(file, stations)
    if problems:
        raise UsageError(f"{path} cannot be used: {join(problems)}")
    return file, stations


def _station(entry: DeviceEntry, settings: Settings) -> Station:
    quant = entry.quant or settings.quant
    if quant not in settings.formats:
        raise UsageError(f"expected quant as one of {', '.join(settings.formats)}, found {quant!r}")
    own = Settings(entry.mode or settings.mode, quant, settings.formats, settings.profiles)
    made = station(
        entry.name,
        own,
        profile=entry.profile,
        budget_bytes=_budget(entry.budget),
        rank=entry.rank,
        onnxruntime_max=entry.onnxruntime_max,
    )
    return Station(made.board, _speed(entry, made.speed))


def _tried(entry: DeviceEntry, settings: Settings) -> Station | str:
    """The board of an entry, or what is wrong with it."""
    try:
        return _station(entry, settings)
    except EdgequiltError as error:
        return f"device {entry.name}: {error}"


def _budget(given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    if isinstance(given, str):
        return size_bytes(given)
    raise UsageError(f"expected budget as bytes or a size such as 200MiB, found {given!r}")


def _speed(entry: DeviceEntry, known: Speed) -> Speed:
    """The rates of the file where it has them; a board without a profile needs all three."""
    given = [entry.flops_per_s, entry.bytes_per_s, entry.link_bytes_per_s]
    if all(rate is None for rate in given):
        return known
    if known == UNKNOWN and None in given:
        raise UsageError(f"expected {', '.join(RATES)} together for a board without a profile, found some of them")
    before = (known.flops_per_s, known.bytes_per_s, known.link_bytes_per_s)
    flops, copies, link = (old if new is None else new for old, new in zip(before, given, strict=True))
    named = ", ".join(name for name, rate in zip(RATES, given, strict=True) if rate is not None)
    source = f"the fleet file ({named})" + ("" if known == UNKNOWN else f", what it does not say by {known.source}")
    latency = known.latency if entry.flops_per_s is None and entry.bytes_per_s is None else None  # of another processor
    return Speed(flops, copies, link, source, latency)


def _chain(entry: ChainEntry, stations: dict[str, Station]) -> BoardChain:
    links = [*entry.links_bytes_per_s, *[None] * len(entry.devices)]
    members = (
        Station(stations[name].board, stations[name].speed, link)
        for name, link in zip(entry.devices, links, strict=False)
    )
    return BoardChain(entry.name, tuple(members), entry.objective)


def _unknown(file: FleetFile) -> Iterator[str]:
    tables = [("", file.extra)]
    tables += [(f"device {e.name}.", e.extra) for e in file.device]
    tables += [(f"chain {e.name}.", e.extra) for e in file.chain]
    tables += [(f"split of tail {e.tail}.", e.extra) for e in file.split]
    yield from (f"{at}{name}: not a field that docs/fleet.md has" for at, extra in tables for name in extra)


def _contradictions(file: FleetFile, stations: dict[str, Station]) -> Iterator[str]:
    """What the entries say of each other."""
    names = Counter(entry.name for entry in file.device)
    yield from (f"device {name}: found {n} times" for name, n in names.items() if n > 1)
    yield from (f"chain {n}: found {k} times" for n, k in Counter(e.name for e in file.chain).items() if k > 1)
    yield from (f"{n}: a device and a chain of one name" for n in {e.name for e in file.chain} & names.keys())
    if not file.device:
        yield "device: expected one at least, found none"
    used = Counter(name for entry in file.chain for name in entry.devices)
    yield from (f"device {name}: in {n} places of chains; a device runs one stage" for name, n in used.items() if n > 1)
    yield from split_problems(file.split, names.keys(), used.keys())
    for entry in file.chain:
        at = f"chain {entry.name}"
        lost = [name for name in entry.devices if name not in names]
        if lost:
            yield f"{at}: expected devices of this file, found {', '.join(lost)}"
        if len(entry.devices) < 2:
            yield f"{at}: expected two devices at least, found {len(entry.devices)}"
        if entry.links_bytes_per_s and len(entry.links_bytes_per_s) != len(entry.devices) - 1:
            yield f"{at}: expected a link fewer than devices, found {len(entry.links_bytes_per_s)}"
        members = [stations[name] for name in entry.devices if name in stations]
        modes = sorted({member.board.mode for member in members})
        if len(modes) > 1:
            yield f"{at}: expected one mode for all of it, found {' and '.join(modes)}"
        problem = without_speeds(entry.objective, members)
        if problem:
            yield f"{at}: {problem}"
