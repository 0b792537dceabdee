"""Who is let in: devices by key, bundles by signature, and only those of one model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.errors import HubError, IntegrityError, SignatureError, StorageError, UsageError
from hub.store import registry
from hub.store.registry import Home
from tests.hub.bundles import SLOTS, manifest, write_bundle
from wire.keys import PrivateKey, new_key, write_key


@pytest.fixture
def publisher() -> PrivateKey:
    """The key that the hub trusts."""
    return new_key("publisher", "acme")


@pytest.fixture
def home(tmp_path: Path, publisher: PrivateKey) -> Iterator[Home]:
    """A hub without bundles."""
    _, public = write_key(publisher, tmp_path)
    registry.create(tmp_path / "hub", "farm", [public], "127.0.0.1:0")
    opened = registry.open_home(tmp_path / "hub")
    yield opened
    opened.ledger.close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """Below a file there is no folder: no hub, and a sentence that names the place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"expected to make .*hub, could not \(Not a directory\)"):
        registry.create(tmp_path / "file" / "hub", "farm", [], "127.0.0.1:0")


def test_the_first_bundle_makes_version_0(home: Home, publisher: PrivateKey, tmp_path: Path) -> None:
    """The first bundle gives the hub its model and version 0; the same again, or another board's, changes neither."""
    first = write_bundle(tmp_path / "one", publisher, *manifest())
    other = write_bundle(tmp_path / "two", publisher, *manifest(device="jetson-orin-nano-8gb"))

    for folder in (first, first, other):
        registry.add_bundle(home, folder)

    assert [b["device"] for b in home.ledger.bundles()] == ["jetson-orin-nano-8gb", "raspberry-pi-4-2gb"]
    assert [(v["number"], v["parent"]) for v in home.ledger.versions()] == [(0, "")]
    assert home.ledger.tip("tiny") == home.ledger.versions()[0]["digest"]


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"labels": ("apple", "pear", "fig")}, "expected a bundle with the labels of the model tiny"),
    "head": ({"features": 6}, "expected a bundle with the features of the head of the model tiny"),
    "slots": ({"slots": {"layer.0.query": (8, 7)}}, "expected a bundle with the slots of the model tiny"),
    "none": ({"slots": {}}, "expected a bundle with the slots of the model tiny"),
    "more": (
        {"slots": {**SLOTS, "layer.2.key": (2, 2)}},
        "found layer.2.key besides in .* the first bundle of a model",
    ),
    "biases": ({"biases": {"layer.0.query": 6}}, "expected a bundle with the biases of the model tiny"),
}


@pytest.mark.parametrize(("changed", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_a_bundle_that_promises_other_shapes_is_refused(
    home: Home, publisher: PrivateKey, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    """All bundles of a model promise what the first one does, or a part of it; what differs is named."""
    registry.add_bundle(home, write_bundle(tmp_path / "one", publisher, *manifest()))

    with pytest.raises(HubError, match=words):
        registry.add_bundle(home, write_bundle(tmp_path / "two", publisher, *manifest(**changed)))
    assert len(home.ledger.bundles()) == 1


def test_a_model_is_what_its_whole_bundle_says(home: Home, publisher: PrivateKey, tmp_path: Path) -> None:
    """A bundle with some of the slots is taken in, and the model keeps all of them, wherever the bundle is listed."""
    registry.add_bundle(home, write_bundle(tmp_path / "one", publisher, *manifest()))
    part = manifest({"layer.0.query": (8, 6)}, device="a-board-before-the-others")
    registry.add_bundle(home, write_bundle(tmp_path / "two", publisher, *part))

    assert home.ledger.bundles()[0]["device"] == "a-board-before-the-others"
    assert {slot.name for slot in registry.model(home).slots} == set(SLOTS)


def test_a_bundle_must_be_signed_and_whole(home: Home, publisher: PrivateKey, tmp_path: Path) -> None:
    """A stranger's signature, and a byte that flipped after signing, keep a bundle out."""
    strange = write_bundle(tmp_path / "one", new_key("publisher", "mallory"), *manifest())
    broken = write_bundle(tmp_path / "two", publisher, *manifest())
    data = bytearray((broken / "segment-0.onnx").read_bytes())
    data[3] ^= 1
    (broken / "segment-0.onnx").write_bytes(data)

    with pytest.raises(SignatureError, match="expected bundle one signed by a trusted publisher key"):
        registry.add_bundle(home, strange)
    with pytest.raises(IntegrityError, match=r"segment-0.onnx has another SHA-256"):
        registry.add_bundle(home, broken)
    assert home.ledger.bundles() == []


def test_a_device_is_enrolled_once(home: Home) -> None:
    """The same name with the same key again is fine; a name with another key, or a key under another name, is not."""
    key = new_key("device", "barn").public
    registry.enroll(home, "barn", key.line)
    registry.enroll(home, "barn", key.line)

    with pytest.raises(HubError, match="found that barn is enrolled with another key"):
        registry.enroll(home, "barn", new_key("device", "barn").public.line)
    with pytest.raises(HubError, match="found that barn is enrolled with this key"):
        registry.enroll(home, "coop", key.line)
    with pytest.raises(SignatureError, match="expected the public key of a device in the key of coop, found one of a"):
        registry.enroll(home, "coop", new_key("publisher", "coop").public.line)
    with pytest.raises(UsageError, match="expected a device name of small letters"):
        registry.enroll(home, "Barn 1", key.line)
    assert [d["name"] for d in home.ledger.devices()] == ["barn"]


def test_a_lost_key_is_replaced_when_asked(home: Home) -> None:
    """With `replace`, a name has the new key alone from then on; a key of another name is refused even then."""
    old, new, other = (new_key("device", "barn").public for _ in range(3))
    registry.enroll(home, "barn", old.line)
    registry.enroll(home, "coop", other.line)

    registry.enroll(home, "barn", new.line, replace=True)

    assert [row["key"] for row in home.ledger.devices()] == [new.line, other.line]
    with pytest.raises(HubError, match="found that coop is enrolled with this key"):
        registry.enroll(home, "barn", other.line, replace=True)


def test_one_process_at_a_time(home: Home) -> None:
    """A folder that another process holds is refused."""
    with (
        registry.alone(home.folder),
        pytest.raises(HubError, match="to be free, found a hub running on it"),
        registry.alone(home.folder),
    ):
        pass
