"""What the hub answers to a hello, whatever else there is to say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from wire.record import NAME, at_least, matching


@dataclass(frozen=True)
class HubKeys:
    """Hub: my keys, each signed by the one before and by itself. Not signed: the links are believed (wire.succession).

    An answer to a `hello` that does not name the newest of them.
    """

    TYPE: ClassVar[str] = "hubkeys"
    device: str = field(metadata=matching(NAME))
    links: tuple[bytes, ...]  # the oldest first
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """Hub: an answer to the `hello` of that boot and number: what you should have been told by now.

    Who gets none, or hears of more than came, is kept from news. No clock is needed: a board knows its own hellos.
    """

    TYPE: ClassVar[str] = "standing"
    device: str = field(metadata=matching(NAME))
    boot: str  # of the hello, as its number
    number: int = field(metadata=at_least(0))
    release: int = field(default=-1, metadata=at_least(-1))  # the highest sequence of a release or trial; -1: none
    digest: str = ""  # of the version that it names
    bundle: int = field(default=-1, metadata=at_least(-1))  # the highest sequence of a `bundle`
    program: int = field(default=-1, metadata=at_least(-1))  # of a `program`
    extra: dict[str, Any] = field(default_factory=dict)
