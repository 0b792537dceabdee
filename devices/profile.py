"""What is known of a kind of board: one TOML file each, and every number with its source."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from console.errors import BadData, DoesNotFit, UsageError, join
from console.toml import read_toml
from devices.budget import training_budget_bytes
from devices.latency import Latency, contradictions
from devices.source import SOURCE
from wire.record import NAME, at_least, matching, read_record

FOLDER = Path(__file__).parent / "profiles"
VERSION = r"\d+(\.\d+)+"


class UnknownProfile(UsageError):
    """No profile has this name."""


class NoAgent(DoesNotFit):
    """The board is known, and known to be unable to run an agent."""


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from: measured, emulated, a data sheet, or `unverified`."""

    value: int = field(metadata=at_least(1))
    source: str = field(metadata=matching(SOURCE))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Accelerator:
    """What else could compute, and whether agents use it."""

    name: str
    use: str
    source: str = field(metadata=matching(SOURCE))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """Where the facts that are not numbers come from."""

    cpu: str = field(metadata=matching(SOURCE))
    connections: str = field(metadata=matching(SOURCE))
    runtime: str = field(metadata=matching(SOURCE))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """A kind of board.

    Memory is what Linux says of itself (MemTotal, and MemAvailable after boot), which is less than what is
    soldered on (`memory_nominal_bytes`). `bandwidth_bytes_per_s` is the theoretical figure of the memory,
    `copy_bytes_per_s` what one core reaches, `link_bytes_per_s` what came from a hub. `latency` is what nodes take
    there, where somebody has measured it (docs/probe.md). `support` is how far agents were run on such a board.
    """

    id: str = field(metadata=matching(NAME))
    title: str
    support: Literal["measured", "emulated", "data sheet"]
    agent: Literal["yes", "no"]

    soc: str
    architecture: Literal["aarch64", "x86_64"]
    core: str
    isa: tuple[str, ...]  # extensions that matter to kernels: dotprod, fp16, i8mm, bf16, sve2, avx2, ...
    cores: Figure
    clock_hz: Figure

    memory_nominal_bytes: Figure
    memory_total_bytes: Figure
    memory_available_bytes: Figure
    bandwidth_bytes_per_s: Figure

    storage: tuple[str, ...]
    network: tuple[str, ...]
    rtc: bool  # whether the clock survives a power cut

    os: str
    python: str = field(metadata=matching(VERSION))  # the oldest that its usual systems have
    providers: tuple[str, ...]
    sources: Sources

    copy_bytes_per_s: Figure | None = None
    storage_write_bytes_per_s: Figure | None = None
    storage_read_bytes_per_s: Figure | None = None
    link_bytes_per_s: Figure | None = None
    onnxruntime_max: str | None = field(default=None, metadata=matching(VERSION))
    onnxruntime_avoid: tuple[str, ...] = ()
    accelerator: Accelerator | None = None
    agent_reason: str = ""
    notes: tuple[str, ...] = ()
    latency: Latency | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def budget_bytes(self) -> int:
        """What a training worker may use at its peak on this board, in bytes."""
        return training_budget_bytes(self.memory_available_bytes.value)

    def figures(self) -> dict[str, Figure]:
        """Every number by its name, in the order of the fields."""
        named = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: value for name, value in named if isinstance(value, Figure)}


def names(extra_folder: Path | None = None) -> list[str]:
    """The names of all profiles, sorted; a folder of the user's own adds to ours.

    Raises:
        UsageError: the user's folder is not there.
    """
    return sorted({path.stem for folder in _folders(extra_folder) for path in folder.glob("*.toml")})


def load(name: str, extra_folder: Path | None = None) -> Profile:
    """The profile of that name; the user's folder comes first.

    Raises:
        UnknownProfile: there is none; the message names those that are close.
        UsageError: the user's folder is not there.
        BadData: the file is not a profile; the message names every problem.
        StorageError: the file cannot be read.
    """
    known = names(extra_folder)
    if name not in known:
        close = [k for k in known if k.startswith(name)] or difflib.get_close_matches(name, known, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see edgequilt devices list"
        raise UnknownProfile(f"expected the name of a board, found '{name}'; {hint}")
    paths = (folder / f"{name}.toml" for folder in _folders(extra_folder))
    path = next(path for path in paths if path.is_file())
    return parse(read_toml(path), name, path.name)


def parse(tables: dict[str, Any], name: str, where: str) -> Profile:
    """A profile from its decoded TOML.

    Args:
        tables: what the file holds.
        name: the id that it must have, its file's name.
        where: what to call the file in a message.

    Raises:
        BadData: naming every field that is absent or wrong, or every contradiction.
    """
    profile = read_record(Profile, tables, where)
    problems = list(_contradictions(profile, name))
    if problems:
        raise BadData(f"{where} contradicts itself: {join(problems)}")
    return profile


def require_agent(profile: Profile) -> None:
    """Refuse a board that cannot run an agent.

    Raises:
        NoAgent: with the profile's own reason.
    """
    if profile.agent == "no":
        raise NoAgent(
            f"expected a board that can run an agent, found {profile.id}: {profile.agent_reason}; choose another"
        )


def _folders(extra_folder: Path | None) -> list[Path]:
    if extra_folder is None:
        return [FOLDER]
    if not extra_folder.is_dir():
        raise UsageError(f"expected a folder with profiles, found none at {extra_folder}; check the path")
    return [extra_folder, FOLDER]


def _contradictions(profile: Profile, name: str) -> Iterator[str]:
    nominal, total = profile.memory_nominal_bytes.value, profile.memory_total_bytes.value
    available = profile.memory_available_bytes.value
    if profile.id != name:
        yield f"id: expected '{name}' as in the file's name, found '{profile.id}'"
    if total > nominal:
        yield f"memory_total_bytes: expected at most the nominal {nominal}, found {total}"
    if available > total:
        yield f"memory_available_bytes: expected at most the total {total}, found {available}"
    if profile.agent == "no" and not profile.agent_reason:
        yield "agent_reason: expected a reason why no agent runs there, found none"
    if profile.agent == "yes" and profile.onnxruntime_max is None:
        yield "onnxruntime_max: expected a version, since an agent runs there, found none"
    if profile.latency is not None:
        yield from contradictions(profile.latency)
    if profile.agent == "yes" and not profile.providers:
        yield "providers: expected at least one, since an agent runs there, found none"
