"""Which keys of its hub an agent believes: a chain that only goes on, on disk before it counts."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from console.errors import SignatureError, StorageError
from edge import keyring
from edge.keyring import RECORD, Keyring
from tests.edge.boards import Farm, HereLink, hub_key, make_board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from wire.keys import PrivateKey, new_key
from wire.memory import Network
from wire.messages import HubKeys, Release, encode
from wire.succession import make_link
from wire.topics import topic_of

NAMES = ("one", "two", "three", "four")


@pytest.fixture
def keys() -> list[PrivateKey]:
    """A hub's keys in a row."""
    return [new_key("hub", name) for name in NAMES]


def links_of(keys: list[PrivateKey]) -> tuple[bytes, ...]:
    """The links between them."""
    return tuple(make_link(old, new, "farm", n) for n, (old, new) in enumerate(pairwise(keys), 1))


def ring(state: Path, *keys: PrivateKey, claim: str = "") -> Keyring:
    """What an agent has that a person gave these keys."""
    return Keyring(state, "farm", [key.public for key in keys], claim)


def ids(own: Keyring) -> list[str]:
    """The keys that are believed."""
    return list(own.believed)


def test_both_keys_are_believed_until_the_new_one_speaks(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """A named key is believed beside the one before, also after a restart; its first word ends that for good."""
    one, two = (key.public for key in keys[:2])
    own = ring(tmp_path, keys[0])
    assert own.follow(links_of(keys)[:1])
    assert ids(own) == [one.id, two.id]
    own.heard(one)
    assert ring(tmp_path, keys[0]).believed == (one.id, two.id)

    own = ring(tmp_path, keys[0])
    own.heard(two)
    assert ids(own) == [two.id]
    assert ring(tmp_path, keys[0]).believed == (two.id,)


def test_who_was_away_for_several_keys_comes_over(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """The whole chain at once leads to the newest key, whose first word ends all those before."""
    own = ring(tmp_path, keys[0])
    assert own.follow(links_of(keys))
    assert own.believed == tuple(key.public.id for key in keys)
    own.heard(keys[-1].public)
    assert own.believed == (keys[-1].public.id,)


def test_an_older_announcement_brings_no_key_back(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """Said again, or going in a circle, a chain changes nothing: the key that was left stays left."""
    own, links = ring(tmp_path, keys[0]), links_of(keys)
    own.follow(links[:2])
    own.heard(keys[2].public)
    back = make_link(keys[2], keys[0], "farm", 3)
    for again in (links[:1], links[:2], links[1:2], (back,)):
        assert not own.follow(again)
        assert own.believed == (keys[2].public.id,)
    assert not ring(tmp_path, keys[0]).follow((links[0], back))


def test_a_key_has_one_heir(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """Who has stolen a key that has named its heir already can name no other one."""
    own = ring(tmp_path, keys[0])
    own.follow(links_of(keys)[:1])
    thief = new_key("hub", "thief")
    assert not own.follow((make_link(keys[0], thief, "farm", 1),))
    assert thief.public.id not in own.believed


def test_what_is_not_signed_by_a_believed_key_is_nothing(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """A stranger's links are passed over; one bent link ends the reading, and those before it count."""
    own, links = ring(tmp_path, keys[0]), links_of(keys)
    assert not own.follow((make_link(new_key("hub", "x"), new_key("hub", "y"), "farm", 1),))
    with pytest.raises(SignatureError):
        own.follow((links[0], links[1][:-1] + bytes([links[1][-1] ^ 1]), links[2]))
    assert own.believed == (keys[0].public.id, keys[1].public.id)


def test_a_person_is_above_what_was_said(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """Other keys in agent.toml, or another claim, begin anew; so does a record that is damaged."""
    own = ring(tmp_path, keys[0], claim="a")
    own.follow(links_of(keys)[:1])
    own.heard(keys[1].public)
    assert ring(tmp_path, keys[0], claim="b").believed == (keys[0].public.id,)
    assert ring(tmp_path, keys[0], keys[3], claim="a").believed == (keys[0].public.id, keys[3].public.id)
    assert ring(tmp_path, keys[0], claim="a").believed == (keys[1].public.id,)
    (tmp_path / RECORD).write_text("{")
    assert ring(tmp_path, keys[0], claim="a").believed == (keys[0].public.id,)


def test_on_a_full_disk_nothing_counts(tmp_path: Path, keys: list[PrivateKey], monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written down is not believed, and no key is left before that is on disk."""

    def full(path: Path, data: bytes) -> None:
        raise StorageError("no room")

    links, own = links_of(keys), ring(tmp_path, keys[0])
    with monkeypatch.context() as patch:
        patch.setattr(keyring, "write_atomic", full)
        with pytest.raises(StorageError):
            own.follow(links)
        assert ids(own) == [keys[0].public.id]
    own.follow(links[:1])
    with monkeypatch.context() as patch:
        patch.setattr(keyring, "write_atomic", full)
        own.heard(keys[1].public)
    for now in (own, ring(tmp_path, keys[0])):
        assert ids(now) == [keys[0].public.id, keys[1].public.id]
    assert json.loads((tmp_path / RECORD).read_text())["retired"] == []


def test_an_agent_follows_its_hub(tmp_path: Path) -> None:
    """An agent that hears of a key says hello with it, obeys both, and after its first word the new one alone."""
    farm = Farm(make_board(tmp_path), Network(), HereLink())
    core = farm.start()
    farm.run(seconds=3)
    old, new = hub_key(farm.board), new_key("hub", "hub-2")
    assert list(farm.hub.hellos[-1].hub_keys) == [old.public.id]

    message = encode(HubKeys("barn-1", (make_link(old, new, FLEET, 1),)))
    farm.hub.transport.publish(topic_of(FLEET, MODEL, "down", "hubkeys", "barn-1"), message)
    farm.run(seconds=3)
    assert list(farm.hub.hellos[-1].hub_keys) == [old.public.id, new.public.id]

    versions = [farm.hub.publish_version(farm.board.manifest, n) for n in range(4)]

    def released(number: int, key: PrivateKey) -> int:
        farm.hub.release(versions[number], number, number, key=key)
        farm.run(seconds=20)
        assert core.store.released.seen is not None
        return core.store.released.seen.version

    assert released(1, old) == 1
    assert released(2, new) == 2
    assert released(3, old) == 2
    farm.kill()
    core = farm.start()
    assert released(3, old) == 2
    assert released(3, new) == 3


def test_an_emptied_state_folder_begins_with_what_was_given(tmp_path: Path) -> None:
    """An agent that has lost its state believes the keys of agent.toml, and the chain brings it over once more."""
    farm = Farm(make_board(tmp_path), Network(), HereLink())
    old, new = hub_key(farm.board), new_key("hub", "hub-2")
    setup = farm.setup()
    setup.hub.follow((make_link(old, new, FLEET, 1),))
    setup.hub.heard(new.public)
    assert setup.lock is not None
    setup.lock.close()
    shutil.rmtree(farm.board.config.state)
    core = farm.start()
    assert core.setup.hub.believed == (old.public.id,)
    assert core.setup.hub.follow((make_link(old, new, FLEET, 1),))


def test_a_release_is_read_by_the_keys_that_are_believed(tmp_path: Path, keys: list[PrivateKey]) -> None:
    """A message under a key that was left is refused as one of a stranger's."""
    own = ring(tmp_path, keys[0])
    own.follow(links_of(keys)[:1])
    own.heard(keys[1].public)
    body = encode(Release("toy-1", 1, 1, "a" * 64))
    with pytest.raises(SignatureError, match="trusted hub key"):
        own.check("hub", keys[0].public.id, bytes(64), body, "a release")
