"""Who may say and hear what, and how much: the facts that every broker's configuration is written from.

A device's name is the common name of its certificate. It may publish below its own `up/` and, as itself, to other
devices; it may read its own `down/`, what is said to all and what other devices say to it. The hub may read and write
everything of its fleet.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.authority import HUB_NAME
from wire.mqtt import IN_FLIGHT, PACKET_LIMIT_BYTES, SESSION_S
from wire.topics import PREFIX

MAX_PACKET_BYTES = PACKET_LIMIT_BYTES
MAX_QUEUED_BYTES = 64 << 20  # per client that is away: a thousand chunks of 64 KiB
# the bytes are the limit; at 0, which says "no limit", mosquitto 2.0 ends each connection over a message that it denies
MAX_QUEUED_MESSAGES = 1_000_000
MAX_INFLIGHT = IN_FLIGHT
SESSION_EXPIRY = f"{SESSION_S // 86400}d"


@dataclass(frozen=True)
class Rule:
    """One client, and the topic patterns that it may write to and read from."""

    name: str
    write: tuple[str, ...]
    read: tuple[str, ...]


def rules(fleet: str, devices: list[str]) -> list[Rule]:
    """The hub and its devices; who is not in the list may do nothing.

    >>> rules("farm", ["barn-1"])[1].write
    ('edgequilt/1/farm/+/up/barn-1/#', 'edgequilt/1/farm/+/peer/barn-1/+/+')
    """
    everything = f"{PREFIX}/{fleet}/#"
    return [Rule(HUB_NAME, (everything,), (everything,)), *(_device(fleet, name) for name in devices)]


def _device(fleet: str, name: str) -> Rule:
    below = f"{PREFIX}/{fleet}/+"
    write = (f"{below}/up/{name}/#", f"{below}/peer/{name}/+/+")
    return Rule(name, write, (f"{below}/down/{name}/#", f"{below}/all/#", f"{below}/peer/+/{name}/+"))
