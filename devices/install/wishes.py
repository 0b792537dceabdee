"""What a person chose for boards, and what shall be on one of them because of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.install.health import STEADY_S
from devices.install.plan import Wanted
from devices.payload.agent import carried, program
from devices.payload.placed import Payload
from devices.payload.places import BUNDLE, DATA
from devices.payload.release import release
from devices.payload.settings import Settings, settings_payload
from devices.payload.target import Target
from devices.payload.unit import unit_payload
from devices.profile import Profile, require_agent
from wire.token import parse_token


@dataclass(frozen=True)
class Wishes:
    """What a person chose, for every board.

    Attributes:
        hub, bundle, data, profile, tables: see `devices.payload.agent` and `devices.payload.settings`.
        wheelhouse: wheels to take instead of an index.
        sudo_password: for boards whose sudo asks.
        prefix: a folder of the board that stands for its root; systemd is spoken to all the same.
        cache: where wheels are kept here.
        quiet: whether no progress is shown.
        steady_s: how long the agent must run before it counts as healthy.
    """

    hub: str | None = None
    bundle: Path | None = None
    data: Path | None = None
    profile: Profile | None = None
    tables: Mapping[str, Mapping[str, Any]] | None = None
    wheelhouse: Path | None = None
    sudo_password: bytes | None = field(default=None, repr=False)
    prefix: str = "/"
    cache: Path | None = None
    quiet: bool = False
    steady_s: float = STEADY_S


def wanted_by(target: Target, token: str | None, wishes: Wishes, profile: Profile | None, python: str) -> Wanted:
    """What shall be on a board; wheels are fetched on the way.

    Raises:
        EdgequiltError: there are none that fit, the token is none, or a folder is not there.
    """
    if profile is not None:
        require_agent(profile)
    made = release(target, profile, wishes.wheelhouse, wishes.cache)
    owned = program(python) + unit_payload(profile, python)
    if token is None:
        return Wanted(made, owned)
    settings = Settings(
        token, wishes.hub, profile.id if profile else None, wishes.bundle is not None, wishes.tables or {}
    )
    named = parse_token(token)
    parts = [carried(wishes.bundle, BUNDLE, "manifest.json")] if wishes.bundle is not None else []
    parts += [carried(wishes.data, DATA)] if wishes.data is not None else []
    return Wanted(made, owned, settings_payload(settings), sum(parts, Payload()), named.name, named.fleet)
