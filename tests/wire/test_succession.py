"""A link between two keys of a hub: what both sign, and what is none."""

from __future__ import annotations

import dataclasses

import pytest

from console.errors import EdgequiltError, SignatureError
from tests.wire.test_messages import LINKS, known_key
from wire import messages as m
from wire.envelope import Trust, seal
from wire.keys import PrivateKey, new_key
from wire.pack import pack, unpack
from wire.record import plain
from wire.succession import SCHEMA, Heir, key_of, make_link, read_link

OLD, NEW = known_key(1), known_key(2)
BELIEVED = Trust([OLD.public])


def enclosed(outer: PrivateKey, inner: PrivateKey, heir: Heir) -> bytes:
    """A link as anybody could make one."""
    return seal(outer, seal(inner, pack({"type": Heir.TYPE, "schema": SCHEMA, **plain(heir)})))


def test_both_keys_sign_a_link() -> None:
    """The key before names the new one, which signs that it is so; from then on the new one can name the next."""
    first = read_link(LINKS[0], BELIEVED, "farm")
    assert (first.number, first.before, first.key.raw) == (1, OLD.public.id, NEW.public.raw)
    second = read_link(LINKS[1], Trust([first.key]), "farm")
    assert second.key.raw == known_key(3).public.raw
    assert key_of(LINKS[1]) == second.key
    with pytest.raises(SignatureError, match="trusted hub key"):
        read_link(LINKS[1], BELIEVED, "farm")  # the link between is lacking


def test_half_a_link_is_none() -> None:
    """Without either signature, in another role, of another fleet or after another key nothing is believed."""
    heir = Heir("farm", 1, OLD.public.id, NEW.public.line)
    assert enclosed(OLD, NEW, heir) == make_link(OLD, NEW, "farm", 1)
    stranger, device = new_key("hub", "x"), new_key("device", "barn")
    wrong = [
        enclosed(stranger, NEW, heir),
        enclosed(OLD, stranger, heir),  # who made it does not have the new key
        enclosed(OLD, OLD, heir),
        enclosed(device, NEW, heir),
        enclosed(OLD, device, dataclasses.replace(heir, key=device.public.line)),
        enclosed(OLD, NEW, dataclasses.replace(heir, fleet="other")),
        enclosed(OLD, NEW, dataclasses.replace(heir, before=stranger.public.id)),
        enclosed(OLD, OLD, dataclasses.replace(heir, key=OLD.public.line)),
        seal(OLD, m.encode(m.Release("toy-1", 1, 1, "a" * 64))),
        b"",
        bytes(5000),
    ]
    for data in wrong:
        with pytest.raises(EdgequiltError):
            read_link(data, BELIEVED, "farm")


def test_a_link_is_no_message() -> None:
    """What the two keys sign for a link is taken for a message of the hub by nobody."""
    outer = unpack(LINKS[0], "a link")
    inner = unpack(outer["body"], "a link")
    for body in (outer["body"], inner["body"]):
        for kind in m.MESSAGES.values():
            with pytest.raises(EdgequiltError):
                m.decode(body, kind)
