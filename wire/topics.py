"""Every topic of the fleet in one table; the only place where a topic string is written.

`edgequilt/1/FLEET/MODEL/up/DEVICE/TYPE`, `.../down/DEVICE/TYPE`, `.../all/TYPE`, `.../peer/SENDER/RECEIVER/TYPE`. A
device may publish below its own `up/` and `peer/`, and subscribe to its own `down/`, to `all/` and to what others say
to it: an access list needs one pattern per direction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from console.errors import UsageError
from wire import messages as m
from wire.record import NAME

PREFIX = "edgequilt/1"
NO_MODEL = "none"  # in the place of MODEL while a device has no bundle yet; no model may have that name


@dataclass(frozen=True)
class Topic:
    """How one message type travels."""

    message: Any
    direction: str  # up, down, all, peer
    qos: int
    retain: bool
    signer: str  # role; empty where the envelope is left out
    expiry_s: int | None = None  # after which it need not arrive any more; None: it must, however late


PRESENCE_S = 86400  # whoever speaks is there, whatever its presence said yesterday
JOB_S = 86400  # a round that still waits sends it again at every hello; a cancel lives on after the job that it ends
CHUNK_DOWN_S = 3600  # who still lacks it asks again
STANDING_S = 3600  # who got none asks again
PEER_S = 300  # what is not answered is said again much sooner
TABLE: tuple[Topic, ...] = (
    Topic(m.Hello, "up", 1, False, "device"),
    Topic(m.Presence, "up", 1, False, "device", PRESENCE_S),
    Topic(m.Begin, "up", 1, False, "device"),
    Topic(m.Chunk, "up", 1, False, ""),
    Topic(m.Commit, "up", 1, False, "device"),
    Topic(m.Fetch, "up", 1, False, "device"),
    Topic(m.Failed, "up", 1, False, "device"),
    Topic(m.MaskKeys, "up", 1, False, "device"),
    Topic(m.MaskShares, "up", 1, False, "device"),
    Topic(m.MaskAgreed, "up", 1, False, "device"),
    Topic(m.MaskReveal, "up", 1, False, "device"),
    Topic(m.Job, "down", 1, False, "hub", JOB_S),
    Topic(m.Cancel, "down", 1, False, "hub", JOB_S),
    Topic(m.Receipt, "down", 1, False, "hub"),
    Topic(m.Missing, "down", 1, False, "hub", CHUNK_DOWN_S),
    Topic(m.MaskRoster, "down", 1, False, "hub"),
    Topic(m.MaskSealed, "down", 1, False, "hub"),
    Topic(m.MaskSurvivors, "down", 1, False, "hub"),
    Topic(m.MaskOpen, "down", 1, False, "hub"),
    Topic(m.Canary, "down", 1, False, "hub"),
    Topic(m.Chunk, "down", 1, False, "", CHUNK_DOWN_S),
    Topic(m.Assignment, "down", 1, False, "hub"),
    Topic(m.Program, "down", 1, False, "hub"),
    Topic(m.HubKeys, "down", 1, False, ""),
    Topic(m.Standing, "down", 1, False, "hub", STANDING_S),
    Topic(m.Version, "all", 1, True, "hub"),
    Topic(m.Release, "all", 1, True, "hub"),
    Topic(m.Crossing, "peer", 1, False, "device", PEER_S),
    Topic(m.Peer, "peer", 1, False, "device", PEER_S),
)
HEAVY = (m.Begin.TYPE, m.Chunk.TYPE, m.Commit.TYPE)  # an update on its way
_BY_NAME = {(t.direction, t.message.TYPE): t for t in TABLE}
_PATTERN = re.compile(rf"{PREFIX}/({NAME})/({NAME})/(?:(up|down)/({NAME})|(all)|(peer)/({NAME})/({NAME}))/([a-z]+)")


@dataclass(frozen=True)
class Address:
    """A topic, taken apart."""

    fleet: str
    model: str
    device: str  # empty for `all`; of `peer`, who speaks
    topic: Topic
    receiver: str = ""  # of `peer`, to whom


def topic_of(fleet: str, model: str, direction: str, message_type: str, device: str = "", receiver: str = "") -> str:
    """Write a topic.

    >>> topic_of("farm", "minilm", "up", "hello", "barn-1")
    'edgequilt/1/farm/minilm/up/barn-1/hello'
    >>> topic_of("farm", "minilm", "peer", "crossing", "barn-1", "coop")
    'edgequilt/1/farm/minilm/peer/barn-1/coop/crossing'
    """
    people = {"all": (), "peer": (device, receiver)}.get(direction, (device,))
    for name in (fleet, model, *people):
        if not re.fullmatch(NAME, name):
            raise UsageError(f"expected a name of small letters, digits, '.', '_' or '-' (at most 63), found {name!r}")
    return "/".join((PREFIX, fleet, model, direction, *people, message_type))


def parse_topic(topic: str) -> Address | None:
    """Read a topic; None if it is not one of ours (brokers may deliver what nobody asked for)."""
    found = _PATTERN.fullmatch(topic)
    if found is None:
        return None
    fleet, model, direction, device, everyone, peer, sender, receiver, kind = found.groups()
    entry = _BY_NAME.get((direction or everyone or peer, kind))
    return None if entry is None else Address(fleet, model, device or sender or "", entry, receiver or "")


def entry_of(direction: str, message_type: str) -> Topic:
    """The row of the table."""
    return _BY_NAME[direction, message_type]


def hub_subscriptions(fleet: str, model: str) -> list[str]:
    """What the hub listens to."""
    return [f"{PREFIX}/{fleet}/{model}/up/+/+"]


def light_subscriptions(fleet: str) -> list[str]:
    """What a hub listens to while workers take updates in."""
    types = [row.message.TYPE for row in TABLE if row.direction == "up" and row.message.TYPE not in HEAVY]
    return [f"{PREFIX}/{fleet}/+/up/+/{kind}" for kind in types]


def shared_subscriptions(fleet: str) -> list[str]:
    """What its workers share (MQTT 5.0, section 4.8.2): each message goes to one of them."""
    return [f"$share/hub/{PREFIX}/{fleet}/+/up/+/{kind}" for kind in HEAVY]


def device_subscriptions(fleet: str, model: str, device: str) -> list[str]:
    """What a device listens to."""
    return [f"{PREFIX}/{fleet}/{model}/down/{device}/+", f"{PREFIX}/{fleet}/{model}/all/+"]


def peer_subscription(fleet: str, model: str, device: str) -> str:
    """What a device listens to while it has one half of a split job."""
    return f"{PREFIX}/{fleet}/{model}/peer/+/{device}/+"
