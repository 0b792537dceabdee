"""What is asked of a run of flashing, and what becomes of it for one image, before anything is written."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.flash.changes import Changes, Seen
from devices.flash.systems.release import target_of_root
from devices.flash.systems.system import System, recognise
from devices.flash.wishes import Wishes
from devices.payload.agent import agent_payload, carried
from devices.payload.pip import require_pip
from devices.payload.places import BUNDLE, DATA
from devices.payload.release import Release, release
from devices.payload.settings import Settings, settings_payload
from devices.payload.target import Target
from devices.profile import Profile
from wire.token import parse_token


@dataclass(frozen=True)
class Order:
    """What a user asks for, the same for all cards.

    Attributes:
        image: as it was fetched.
        profile: the kind of board.
        wishes: of its system.
        hub: where boards reach the hub; None: the token says.
        bundle, data: folders that travel along.
        wheelhouse: wheels to take, without the network.
        tables: further entries of agent.toml, by table.
    """

    image: Path
    profile: Profile
    wishes: Wishes
    hub: str | None = None
    bundle: Path | None = None
    data: Path | None = None
    wheelhouse: Path | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What will be written into an image, before anything is."""

    system: System
    title: str
    target: Target
    release: Release
    changes: Changes
    device: str


def require_order(order: Order, tokens: Sequence[str]) -> None:
    """Whatever can be known to be wrong before an image is unpacked.

    Raises:
        EdgequiltError: a token is none, a folder does not hold what it should, there is no pip.
    """
    for token in tokens:
        settings_payload(settings_of(order, token))
    for folder, place, needed in ((order.bundle, BUNDLE, "manifest.json"), (order.data, DATA, "")):
        if folder is not None:
            carried(folder, place, needed)
    require_pip()


def settings_of(order: Order, token: str) -> Settings:
    """Of one board."""
    return Settings(token, order.hub, order.profile.id, order.bundle is not None, order.tables)


def plan(seen: Seen, order: Order, token: str, mark: str | None = None) -> Plan:
    """Decide what goes into an image.

    Args:
        seen: what it holds.
        order: see there.
        token: of the claim of this card's board.
        mark: of this card; by default a random one.

    Raises:
        EdgequiltError: no such system is known, no agent runs on it, a wheel is missing, the token is none.
    """
    system = recognise(seen)
    target = target_of_root(seen.root)
    made = release(target, order.profile, order.wheelhouse)
    payload = agent_payload(made, settings_of(order, token), order.profile, bundle=order.bundle, data=order.data)
    found = system.changes(seen, order.wishes, mark or random.token_hex(6))
    changes = Changes(found.boot, found.root + payload, found.said)
    return Plan(system, system.title(seen) or system.name, target, made, changes, parse_token(token).name)
