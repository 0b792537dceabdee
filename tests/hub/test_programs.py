"""Releases of the agent: what a hub takes in, which device is to be which, and what is served to whom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, HubError, IntegrityError, SignatureError
from devices.payload.packed import write_packed
from devices.payload.placed import Placed
from devices.payload.release import assemble
from devices.payload.target import Target
from hub.programs.counter import FAILED
from tests.hub.test_bundles import Bare, Web
from tests.hub.world import World
from wire import messages as m
from wire.envelope import Trust, detached, unseal
from wire.files import digest
from wire.keys import PrivateKey, new_key, read_public_key
from wire.packed import MANIFEST, SIGNATURE, STREAM, parse
from wire.topics import parse_topic

BOOKWORM, TRIXIE = Target("3.11", "2.36"), Target("3.13", "2.41")


def packed(folder: Path, key: PrivateKey, target: Target = BOOKWORM, mark: str = "one") -> str:
    """A packed release of one file; its version."""
    made = assemble(target, {}, (Placed("lib/edgequilt.py", f"# {mark} {target}\n".encode()),))
    write_packed(made, folder, key)
    return made.version


class Replaceable(Bare):
    """A device whose agent was started from a release."""

    def __init__(self, world: World, name: str, target: Target | None = BOOKWORM) -> None:
        super().__init__(world, name)
        self.target = target
        self.programs: list[m.Program] = []

    def hear(self, topic: str, payload: bytes) -> None:
        address = parse_topic(topic)
        if address is not None and address.topic.message is m.Program:
            key = read_public_key(self.world.folder / "hub.pub", "hub")
            body, _ = unseal(payload, "hub", Trust([key]), "a program message")
            self.programs.append(m.decode(body, m.Program))

    def be(self, version: str) -> list[m.Program]:
        """Say hello as a release; what the hub said so far."""
        system = "" if self.target is None else str(self.target)
        hello = m.Hello(self.device.sender(), "bare", "", "", 0, (), 0, program=version, system=system)
        self.device.say(hello)
        self.world.network.pump()
        return self.programs


@pytest.fixture
def served(make_world: Callable[..., World]) -> World:
    """A hub that says that it serves HTTPS."""
    world = make_world()
    world.hub.bundles.port = 8884
    return world


def shown(world: World) -> dict[str, str]:
    """How far each device is."""
    return {d["device"]: d["state"] for d in world.ask("release show")["devices"]}


def test_a_device_is_told_what_to_be(served: World, tmp_path: Path) -> None:
    """At once and at every hello, also when it is that already; what it says of a failure is shown until it is it."""
    version = packed(tmp_path / "one", served.publisher)
    served.ask("release add", folder=str(tmp_path / "one"))
    barn = Replaceable(served, "barn")
    assert barn.be("0.0.9+00000000") == []
    assert served.ask("release assign", release="0.1.0", devices=["barn"])["devices"] == {"barn": version}
    served.network.pump()
    name = digest((tmp_path / "one" / MANIFEST).read_bytes())
    assert [(p.device, p.release) for p in barn.programs] == [("barn", name)]
    assert shown(served) == {"barn": "is to fetch it", "coop": "", "mill": ""}

    barn.device.say(m.Failed(barn.device.sender(), f"{FAILED}{barn.programs[0].sequence}", "the disk is full"))
    served.network.pump()
    assert shown(served)["barn"] == "the disk is full"
    assert barn.be(version)[-1] == barn.programs[0]
    assert shown(served)["barn"] == "runs it"


def test_sequences_grow_with_every_order(served: World, tmp_path: Path) -> None:
    """The same release again, and an older one by hand, are orders of a higher sequence; an old failure is ignored."""
    first, second = (packed(tmp_path / mark, served.publisher, mark=mark) for mark in ("one", "two"))
    for mark in ("one", "two"):
        served.ask("release add", folder=str(tmp_path / mark))
    barn = Replaceable(served, "barn")
    barn.be("0.0.9+00000000")
    for version in (second, second, first):
        served.ask("release assign", release=version, devices=["barn"])
        served.network.pump()
    sequences = [p.sequence for p in barn.programs]
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 3
    barn.device.say(m.Failed(barn.device.sender(), f"{FAILED}{sequences[0]}", "too late"))
    served.network.pump()
    assert shown(served)["barn"] == "is to fetch it"
    with pytest.raises(HubError, match="expected one release 0.1.0 for barn .*, found 2"):
        served.ask("release assign", release="0.1.0", devices=["barn"])


def test_each_device_gets_the_release_for_its_system(served: World, tmp_path: Path) -> None:
    """One version, made for two systems: a group gets it by one word, and nobody if one of them cannot."""
    versions = {t: packed(tmp_path / t.python, served.publisher, t) for t in (BOOKWORM, TRIXIE)}
    for target in versions:
        served.ask("release add", folder=str(tmp_path / target.python))
    for name, target in (("barn", BOOKWORM), ("coop", TRIXIE)):
        Replaceable(served, name, target).be("0.0.9+00000000")
    newer = Replaceable(served, "mill", Target("3.11", "2.39"))
    newer.be("0.0.9+00000000")
    found = served.ask("release assign", release="0.1.0", devices=["barn", "coop", "mill"])["devices"]
    assert found == {"barn": versions[BOOKWORM], "coop": versions[TRIXIE], "mill": versions[BOOKWORM]}

    Replaceable(served, "mill", Target("3.12", "2.39")).be("0.0.9+00000000")
    before = served.ask("release show")
    with pytest.raises(HubError, match="found 0; name one of"):
        served.ask("release assign", release="0.1.0", devices=["barn", "mill"])
    assert served.ask("release show") == before


def test_an_agent_that_no_launcher_started_is_not_replaced(served: World, tmp_path: Path) -> None:
    """It says of no release that it is it: whoever put it there replaces it."""
    packed(tmp_path / "one", served.publisher)
    served.ask("release add", folder=str(tmp_path / "one"))
    barn = Replaceable(served, "barn", None)
    assert barn.be("") == []
    with pytest.raises(HubError, match="whose agent was started from a release, found barn"):
        served.ask("release assign", release="0.1.0", devices=["barn"])


WRONG: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    "signed by a stranger": (
        lambda f: (f / SIGNATURE).write_bytes(detached(new_key("publisher", "p"), (f / MANIFEST).read_bytes())),
        SignatureError,
    ),
    "not signed": (lambda f: (f / SIGNATURE).write_bytes(b""), SignatureError),
    "another manifest": (lambda f: (f / MANIFEST).write_bytes((f / MANIFEST).read_bytes() + b" "), SignatureError),
    "another stream": (lambda f: (f / STREAM).write_bytes(b"x" * (f / STREAM).stat().st_size), IntegrityError),
    "no stream": (lambda f: (f / STREAM).unlink(), IntegrityError),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_release_is_not_taken_in(wrong: str, served: World, tmp_path: Path) -> None:
    """The hub refuses what boards would, and knows nothing of it afterwards."""
    change, error = WRONG[wrong]
    packed(tmp_path / "one", served.publisher)
    change(tmp_path / "one")
    with pytest.raises(error):
        served.ask("release add", folder=str(tmp_path / "one"))
    assert served.ask("release list") == {"releases": []}


def test_a_signed_manifest_that_contradicts_itself_is_not_taken_in(served: World, tmp_path: Path) -> None:
    """A publisher's mistake is named before any board hears of it."""
    packed(tmp_path / "one", served.publisher)
    body = (tmp_path / "one" / MANIFEST).read_bytes().replace(b"lib/edgequilt.py", b"../edgequilt.py")
    (tmp_path / "one" / MANIFEST).write_bytes(body)
    (tmp_path / "one" / SIGNATURE).write_bytes(detached(served.publisher, body))
    with pytest.raises(BadData, match="no place in a release"):
        served.ask("release add", folder=str(tmp_path / "one"))


def test_releases_are_served_to_those_they_are_for(served: World, tmp_path: Path) -> None:
    """Manifest, signature and stream come as they were, after the folder is gone; to nobody else."""
    version = packed(tmp_path / "one", served.publisher)
    served.ask("release add", folder=str(tmp_path / "one"))
    files = {name: (tmp_path / "one" / name).read_bytes() for name in (MANIFEST, SIGNATURE, STREAM)}
    shutil.rmtree(tmp_path / "one")
    Replaceable(served, "barn").be("0.0.9+00000000")
    served.ask("release assign", release=version, devices=["barn"])
    (tmp_path / "tls").mkdir()
    for name in ("ca.pem", "ca.key"):
        shutil.copy(served.folder / name, tmp_path / "tls" / name)
    web = Web(served, tmp_path / "tls")
    try:
        at = f"/programs/{digest(files[MANIFEST])}"
        paths = {f"{at}/manifest.json": MANIFEST, f"{at}/manifest.sig": SIGNATURE}
        paths[f"/blobs/{parse(files[MANIFEST]).stream_sha256}"] = STREAM
        for path, name in paths.items():
            assert web.get("barn", path)[:2] == (200, files[name])
            assert web.get("coop", path)[0] == 404
    finally:
        web.server.close()
