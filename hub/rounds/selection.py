"""Who is asked in a round: pure functions over what the hub knows of its devices.

A device is able if it is online, can do the job, and meets the conditions; of the able ones a rule takes all, or so
many by lot or by need. What an agent does not say (its power, its network) meets no condition about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from console.errors import HubError, UsageError, join

RULES = ("all", "random", "need")
NETWORKS = ("wired", "wifi", "unmetered")
WORDS = {
    "kind": "cannot do this job",
    "group": "are not of the group",
    "tag": "do not have the tag",
    "quarantine": "are in quarantine",
    "power": "are on battery or do not say",
    "network": "are on another network or do not say",
    "memory": "have less memory available or do not say",
    "online": "are not online",
}


@dataclass(frozen=True)
class Selection:
    """A rule and its conditions, as kept with a round. `devices` are named ones, asked whether online or not."""

    rule: Literal["all", "random", "need"] = "all"
    count: int = 0
    devices: tuple[str, ...] = ()
    group: str = ""
    tag: str = ""
    power: str = ""  # "mains", or the least percentage of a battery as digits
    network: str = ""
    memory_bytes: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """What the hub knows of a device: its last hello, its groups and tags, and when its rows last counted."""

    name: str
    online: bool = True
    jobs: tuple[str, ...] = ()
    samples: int = 0
    power: str = ""
    battery_percent: int | None = None
    network: str = ""
    memory_bytes: int | None = None
    groups: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    quarantine: str = ""  # why it is left out; empty: it is not
    counted_samples: int = 0  # the rows of its last update that is in a version
    counted_version: int = -1  # the number of that version

    @property
    def unseen(self) -> int:
        """Rows that no version has seen."""
        return max(0, self.samples - self.counted_samples)


def selection_of(told: dict[str, Any]) -> Selection:
    """A selection from what people say: `select` is all, random:N or need:N.

    Raises:
        UsageError: something in it is not known.
    """
    rule, _, count = (told.get("select") or "all").partition(":")
    counted = count.isdecimal() and int(count) > 0
    if rule not in RULES or counted == (rule == "all") or (rule == "all" and count):
        raise UsageError(f"expected all, random:N or need:N as a selection, found {told['select']!r}")
    power, network = told.get("power") or "", told.get("network") or ""
    if power not in ("", "mains") and not (power.isdecimal() and int(power) <= 100):
        raise UsageError(f"expected mains or the least percentage of a battery as power, found {power!r}")
    if network not in ("", *NETWORKS):
        raise UsageError(f"expected a network among {', '.join(NETWORKS)}, found {network!r}")
    return Selection(
        rule=rule,  # type: ignore[arg-type]  # one of RULES
        count=int(count) if counted else 0,
        devices=tuple(sorted(set(told.get("devices") or ()))),
        group=told.get("group") or "",
        tag=told.get("tag") or "",
        power=power,
        network=network,
        memory_bytes=int(told.get("memory_bytes") or 0),
    )


def choose(
    boards: Iterable[Board], told: Selection, job: str, seed: str, over: float = 0.0, half: str = ""
) -> tuple[list[str], int]:
    """The devices to ask, by name, and how many answers are wanted.

    Args:
        boards: all devices.
        told: the rule and its conditions.
        job: what they must be able to do (`wire.messages.ability`).
        seed: of the lot; the same one draws the same devices.
        over: the share by which more are asked than are wanted.
        half: what those can do that do the job together with another device; empty: nobody does.

    Raises:
        HubError: nobody is able, and why not.
    """
    everyone = list(boards)
    able, lacks = able_ones(everyone, told, {job, half} - {""})
    if not able:
        why = join([f"{n} {WORDS[what]}" for what, n in lacks.items()]) or "none is enrolled"
        raise HubError(
            f"expected a device that is able to {job}, found none of {len(everyone)} ({why}); start their agents, "
            f"ask for less, or name devices with --devices"
        )
    if told.rule == "all":
        asked = sorted(b.name for b in able)
        return asked, max(1, round(len(asked) / (1.0 + over)))
    ranked = sorted(able, key=lambda b: _by_lot(b, seed) if told.rule == "random" else _by_need(b))
    asked = sorted(b.name for b in ranked[: max(0, round_up(told.count * (1.0 + over)))])
    return asked, min(told.count, len(asked))


def able_ones(boards: list[Board], told: Selection, jobs: set[str]) -> tuple[list[Board], dict[str, int]]:
    """Those that can do one of some jobs and meet every condition, and how many failed which one first."""
    checks: dict[str, Callable[[Board], bool]] = {
        "group": lambda b: not told.group or told.group in b.groups,
        "tag": lambda b: not told.tag or told.tag in b.tags,
        "quarantine": lambda b: not b.quarantine or b.name in told.devices,
        "online": lambda b: b.online or b.name in told.devices,
        "kind": lambda b: bool(jobs.intersection(b.jobs)) or b.name in told.devices,
        "power": lambda b: _powered(b, told.power),
        "network": lambda b: _connected(b, told.network),
        "memory": lambda b: not told.memory_bytes or (b.memory_bytes or 0) >= told.memory_bytes,
    }
    able, lacks = [], dict[str, int]()
    for board in boards:
        if told.devices and board.name not in told.devices:
            continue
        first = next((what for what, holds in checks.items() if not holds(board)), None)
        if first is None:
            able.append(board)
        else:
            lacks[first] = lacks.get(first, 0) + 1
    return able, lacks


def round_up(value: float) -> int:
    """The next whole number, but for rounding of the last digits.

    >>> round_up(10 * 1.1), round_up(10.2)
    (11, 11)
    """
    return -int(-(value - 1e-9) // 1)


def _powered(board: Board, wanted: str) -> bool:
    if not wanted or board.power == "mains":
        return True
    return wanted != "mains" and board.battery_percent is not None and board.battery_percent >= int(wanted)


def _connected(board: Board, wanted: str) -> bool:
    kinds = {"": ("", "wired", "wifi", "metered"), "unmetered": ("wired", "wifi")}
    return board.network in kinds.get(wanted, (wanted,))


def _by_lot(board: Board, seed: str) -> Any:
    return hashlib.sha256(f"{seed} {board.name}".encode()).digest()


def _by_need(board: Board) -> Any:
    """Most unseen rows first; among equals whose rows counted longest ago."""
    return -board.unseen, board.counted_version, board.name
