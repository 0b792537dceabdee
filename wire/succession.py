"""How one hub key follows another: a link, which the key before and the new one both sign.

The roots of TUF are the model (The Update Framework, specification 1.0.33, sections 5.3 and 6.1): a new root counts
when a threshold of the old keys and of the new ones has signed it, and who was away goes through all of them in turn.
A link is the envelope of the old key around the envelope of the new one around a record: the old key says whom to
believe next, the new one that whoever has it knows of that. Neither envelope is one of a message, whose body begins
with a type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from console.errors import SignatureError
from wire.envelope import Trust, body_of, seal, unseal
from wire.keys import PrivateKey, PublicKey, parse_public_key
from wire.pack import pack, unpack
from wire.record import NAME, at_least, matching, plain, read_record

ROLE, SCHEMA = "hub", 1
MOST_LINKS = 256  # that are kept, sent and read
LINK_LIMIT_BYTES = 4096
WHAT = "a link between two keys of the hub"


@dataclass(frozen=True)
class Heir:
    """What both keys sign."""

    TYPE: ClassVar[str] = "heir"
    fleet: str = field(metadata=matching(NAME))
    number: int = field(metadata=at_least(1))  # of the link, from 1
    before: str  # id of the key before
    key: str  # the line of the new one
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """A link that holds."""

    number: int
    before: str  # key id
    key: PublicKey


def make_link(old: PrivateKey, new: PrivateKey, fleet: str, number: int) -> bytes:
    """The bytes of a link."""
    heir = Heir(fleet, number, old.public.id, new.public.line)
    return seal(old, seal(new, pack({"type": Heir.TYPE, "schema": SCHEMA, **plain(heir)})))


def before_of(data: bytes) -> str:
    """Id of the key that a link says it is signed by; nothing is checked.

    Raises:
        BadData, SignatureError: it is no envelope, or too long for a link.
    """
    if len(data) > LINK_LIMIT_BYTES:
        raise SignatureError(f"expected {WHAT} of at most {LINK_LIMIT_BYTES} bytes, found {len(data)}; ignored")
    envelope = unpack(data, WHAT)
    return str(envelope.get("key", ""))[:64] if isinstance(envelope, dict) else ""


def read_link(data: bytes, trust: Trust, fleet: str) -> Link:
    """A link that a believed key and the new one have signed.

    Args:
        data: its bytes.
        trust: the keys that are believed.
        fleet: whose hub it must be.

    Raises:
        BadData: it is none.
        SignatureError: one of the two signatures does not hold, or it is about another fleet or key.
    """
    before_of(data)  # not too long
    inner, old = unseal(data, ROLE, trust, WHAT)
    heir = _heir(body_of(inner, WHAT))
    new = parse_public_key(heir.key, ROLE, WHAT)
    unseal(inner, ROLE, Trust([new]), WHAT)
    if (heir.fleet, heir.before) != (fleet, old.id) or new.raw == old.raw:
        raise SignatureError(f"expected {WHAT} of {fleet} after {old.id}, found one of {heir.fleet}; it was ignored")
    return Link(heir.number, old.id, new)


def key_of(data: bytes) -> PublicKey:
    """The new key of a link; nothing is checked.

    Raises:
        BadData, SignatureError: it is no link.
    """
    before_of(data)
    return parse_public_key(_heir(body_of(body_of(data, WHAT), WHAT)).key, ROLE, WHAT)


def _heir(body: bytes) -> Heir:
    fields = unpack(body, WHAT)
    if not isinstance(fields, dict) or (fields.get("type"), fields.get("schema")) != (Heir.TYPE, SCHEMA):
        raise SignatureError(f"expected {WHAT} of schema {SCHEMA}, found something else; it was ignored")
    return read_record(Heir, {k: v for k, v in fields.items() if k not in ("type", "schema")}, WHAT)
