"""Who gets which bundle, what the hub keeps of it, and what it serves to whom."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from console.errors import HubError
from hub.bundles.counter import FAILED
from hub.store import registry
from hub.web.pace import Paces
from hub.web.routes import Within
from hub.web.server import WebServer
from hub.web.table import ROUTES
from tests.hub.bundles import manifest, write_bundle
from tests.hub.web.places import shown
from tests.hub.world import World
from wire import messages as m
from wire.envelope import Trust, detached, unseal
from wire.files import digest
from wire.keys import PrivateKey, read_public_key
from wire.manifest import File, to_bytes
from wire.memory import MemoryTransport
from wire.tls import client_context
from wire.topics import NO_MODEL, device_subscriptions, parse_topic

KIND = "raspberry-pi-4-2gb"
CONTENT = bytes(range(256)) * 1000


def bundle(folder: Path, key: PrivateKey, **changed: Any) -> tuple[Path, str]:
    """A bundle of the world's model with a file worth fetching in parts; its folder and digest."""
    made, files = manifest(**changed)
    files = {**files, "segment-0.onnx": CONTENT + changed.get("device", KIND).encode()}
    made = replace(made, files=tuple(File(name, len(data), digest(data)) for name, data in files.items()))
    return write_bundle(folder, key, made, files), digest(to_bytes(made))


class Bare:
    """A device without a bundle: it says hello and keeps what the hub names."""

    def __init__(self, world: World, name: str, profile: str = "") -> None:
        self.world, self.device, self.profile = world, world.devices[name], profile
        self.device.model = NO_MODEL
        self.orders: list[m.Assignment] = []
        transport = MemoryTransport(world.network, f"{name}-bare")
        for pattern in device_subscriptions("farm", NO_MODEL, name):
            transport.subscribe(pattern)
        transport.start(self.hear, lambda up: None)

    def hear(self, topic: str, payload: bytes) -> None:
        address = parse_topic(topic)
        if address is not None and address.topic.message is m.Assignment:
            key = read_public_key(self.world.folder / "hub.pub", "hub")
            body, _ = unseal(payload, "hub", Trust([key]), "a bundle message")
            self.orders.append(m.decode(body, m.Assignment))

    def hello(self, has: str = "") -> list[m.Assignment]:
        self.device.say(m.Hello(self.device.sender(), "bare", self.profile, has, 0, (), 0))
        self.world.network.pump()
        return self.orders


@pytest.fixture
def served(make_world: Callable[..., World]) -> World:
    """A hub that says that it serves HTTPS."""
    world = make_world()
    world.hub.bundles.port = 8884
    return world


def test_a_device_without_a_bundle_gets_that_of_its_kind(served: World, tmp_path: Path) -> None:
    """It gets the newest bundle of its profile, one made for its name before that, and never an older sequence."""
    _, one = bundle(tmp_path / "one", served.publisher)
    served.ask("add", folder=str(tmp_path / "one"))
    barn = Bare(served, "barn", KIND)
    assert [(o.bundle, o.model, o.device) for o in barn.hello()] == [(one, "tiny", "barn")]
    assert barn.hello()[-1] == barn.orders[0]

    _, own = bundle(tmp_path / "own", served.publisher, device="coop")
    coop = Bare(served, "coop", "unknown-board")
    assert coop.hello() == []
    served.ask("add", folder=str(tmp_path / "own"))
    served.network.pump()
    assert [o.bundle for o in coop.orders] == [own]
    assert coop.orders[0].sequence > barn.orders[0].sequence


def test_a_bundle_given_by_hand_is_said_at_once_and_its_failure_shown(served: World, tmp_path: Path) -> None:
    """An assignment has a higher sequence than the one before; what the device says of it is shown until it runs it."""
    _, one = bundle(tmp_path / "one", served.publisher)
    served.ask("add", folder=str(tmp_path / "one"))
    barn = Bare(served, "barn")
    assert barn.hello() == []
    served.ask("name", of="group", name="field", devices=["barn"], add=True)
    served.ask("bundle assign", bundle=one[:8], devices=[], group="field")
    served.network.pump()
    served.ask("bundle assign", bundle=one, devices=["barn"])
    served.network.pump()
    first, second = barn.orders
    assert (first.bundle, second.bundle) == (one, one)
    assert second.sequence > first.sequence

    barn.device.say(m.Failed(barn.device.sender(), f"{FAILED}{first.sequence}", "too late"))
    served.network.pump()
    states = {d["device"]: d["state"] for d in served.ask("bundle show")["devices"]}
    assert states["barn"] == "is to fetch it"
    barn.device.say(m.Failed(barn.device.sender(), f"{FAILED}{second.sequence}", "the disk is full"))
    served.network.pump()
    states = {d["device"]: d["state"] for d in served.ask("bundle show")["devices"]}
    assert states["barn"] == "the disk is full"
    barn.hello(one)
    states = {d["device"]: d["state"] for d in served.ask("bundle show")["devices"]}
    assert states == {"barn": "runs it", "coop": "", "mill": ""}
    with pytest.raises(HubError, match="enrolled devices, found stranger"):
        served.ask("bundle assign", bundle=one, devices=["stranger"])
    with pytest.raises(HubError, match="expected one bundle of this hub, found 0"):
        served.ask("bundle assign", bundle="ffff", devices=["barn"])


def test_no_model_may_be_called_none(served: World, tmp_path: Path) -> None:
    """The name stands in topics of devices that have no bundle."""
    bundle(tmp_path / "none", served.publisher, model=NO_MODEL)
    with pytest.raises(HubError, match="a name of its own"):
        served.ask("add", folder=str(tmp_path / "none"))


class Web:
    """The hub's routes, served for real; `get` asks as a device."""

    def __init__(self, world: World, folder: Path, paces: Paces | None = None) -> None:
        from hub import authority

        self.world = world
        made = authority.create("farm", world.folder)
        authority.issue_server(made, ["127.0.0.1"], world.folder, "web")
        files = (world.folder / "web.pem", world.folder / "web.key", world.folder / "ca.pem")
        within: Within = lambda function: function(world.hub)  # noqa: E731  # the hub's thread is at rest meanwhile
        counter = world.hub.bundles
        self.server = WebServer("127.0.0.1", 0, files, ROUTES, within, paces=paces, sent=counter.fetched)
        self.folder = folder
        self.contexts: dict[str, Any] = {}

    def get(self, device: str, path: str, **headers: str) -> tuple[int, bytes, HTTPResponse]:
        if device not in self.contexts:
            from wire.https import Server

            at = shown(Server("127.0.0.1", self.server.port, self.world.folder / "ca.pem"), self.folder, device)
            self.contexts[device] = client_context(at.ca, at.certificate, at.key)
        connection = HTTPSConnection("127.0.0.1", self.server.port, timeout=20, context=self.contexts[device])
        connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body, answer


@pytest.fixture
def web(served: World, tmp_path: Path) -> Iterator[Web]:
    """A hub that serves."""
    (tmp_path / "tls").mkdir()
    # the certificates are issued by the authority of the hub's folder
    for name in ("ca.pem", "ca.key"):
        shutil.copy(served.folder / name, tmp_path / "tls" / name)
    made = Web(served, tmp_path / "tls")
    yield made
    made.server.close()


def test_files_are_served_to_those_they_are_for(web: Web, tmp_path: Path) -> None:
    """The manifest, its signature and every file come as they were, after the folder is gone; to nobody else."""
    folder, one = bundle(tmp_path / "one", web.world.publisher)
    web.world.ask("add", folder=str(folder))
    body, signature = (folder / "manifest.json").read_bytes(), (folder / "manifest.sig").read_bytes()
    shutil.rmtree(folder)
    web.world.ask("bundle assign", bundle=one, devices=["barn"])

    assert web.get("barn", f"/bundles/{one}/manifest.json")[:2] == (200, body)
    assert web.get("barn", f"/bundles/{one}/manifest.sig")[:2] == (200, signature)
    assert signature == detached(web.world.publisher, body)
    content = CONTENT + KIND.encode()
    for file in json.loads(body)["files"]:
        status, data, answer = web.get("barn", f"/blobs/{file['sha256']}")
        assert (status, digest(data), answer.headers["ETag"]) == (200, file["sha256"], f'"{file["sha256"]}"')
        assert web.get("coop", f"/blobs/{file['sha256']}")[0] == 404
    assert web.get("coop", f"/bundles/{one}/manifest.json")[0] == 404
    assert web.get("barn", "/blobs/" + "0" * 64)[0] == 404
    assert web.get("stranger", f"/blobs/{digest(content)}")[0] == 403
    fetched = [f for f in web.world.ask("bundle show")["fetches"] if f["file"] == digest(content)]
    assert [(f["device"], f["start"], f["bytes"], f["of"]) for f in fetched] == [
        ("barn", 0, len(content), len(content))
    ]


@pytest.mark.parametrize(
    ("asked", "status", "begin", "end"),
    [
        ("bytes=1000-", 206, 1000, None),
        ("bytes=5-9", 206, 5, 10),
        ("bytes=-7", 206, -7, None),
        ("bytes=0-999999999", 206, 0, None),
        ("bytes=9-5", 200, 0, None),
        ("bytes=0-1,5-9", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=999999999-", 416, None, None),
    ],
)
def test_ranges_are_those_of_the_rfc(
    web: Web, tmp_path: Path, asked: str, status: int, begin: int | None, end: int | None
) -> None:
    """A single range is answered with 206 and what it means; several, or none that is one, with all; 416 beyond."""
    folder, one = bundle(tmp_path / "one", web.world.publisher)
    web.world.ask("add", folder=str(folder))
    web.world.ask("bundle assign", bundle=one, devices=["barn"])
    content = CONTENT + KIND.encode()
    path = f"/blobs/{digest(content)}"

    found, data, answer = web.get("barn", path, Range=asked)
    assert found == status
    if status == 416:
        assert answer.headers["Content-Range"] == f"bytes */{len(content)}"
        return
    assert data == content[begin:end]
    if status == 206:
        first = len(content) + (begin or 0) if (begin or 0) < 0 else begin
        assert answer.headers["Content-Range"] == f"bytes {first}-{(first or 0) + len(data) - 1}/{len(content)}"
        assert web.get("barn", path, Range=asked, If_Range=f'"{digest(content)}"')[0] == 206
        assert web.get("barn", path, Range=asked, If_Range='"another"')[:2] == (200, content)


def test_a_changed_file_is_not_served(web: Web, tmp_path: Path) -> None:
    """A bundle left in its folder is looked at again when it changed, even if its length did not."""
    folder, one = bundle(tmp_path / "one", web.world.publisher)
    web.world.ask("add", folder=str(folder), copy=False)
    web.world.ask("bundle assign", bundle=one, devices=["barn"])
    content = CONTENT + KIND.encode()
    path = f"/blobs/{digest(content)}"
    kept = {row["sha256"]: row["kept"] for row in web.world.ask("bundle list")["bundles"]}
    assert kept == {one: False, **{other: True for other in kept if other != one}}
    assert web.get("barn", path)[:2] == (200, content)

    (folder / "segment-0.onnx").write_bytes(content[:-1] + b"x")
    status, body, _ = web.get("barn", path)
    assert status == 500
    assert b"missing or changed" in body
    (folder / "segment-0.onnx").unlink()
    assert web.get("barn", path)[0] == 500
    (folder / "segment-0.onnx").write_bytes(content)
    registry.add_bundle(web.world.hub.home, folder)
    shutil.rmtree(folder)
    assert web.get("barn", path)[:2] == (200, content)


def test_what_the_hub_kept_survives_a_change_of_the_folder(web: Web, tmp_path: Path) -> None:
    """Where it was kept by a link, a change in place is noticed; one by a new file is none of the hub's business."""
    folder, one = bundle(tmp_path / "one", web.world.publisher)
    web.world.ask("add", folder=str(folder))
    web.world.ask("bundle assign", bundle=one, devices=["barn"])
    content = CONTENT + KIND.encode()
    new = tmp_path / "new"
    new.write_bytes(b"another export")
    new.replace(folder / "segment-0.onnx")
    assert web.get("barn", f"/blobs/{digest(content)}")[:2] == (200, content)


def test_who_is_revoked_gets_nothing_of_what_was_its_own(web: Web, tmp_path: Path) -> None:
    """From the moment of `hub revoke` every route that demands a device refuses its certificate, which still holds."""
    folder, one = bundle(tmp_path / "one", web.world.publisher)
    web.world.ask("add", folder=str(folder))
    web.world.ask("bundle assign", bundle=one, devices=["barn"])
    paths = [
        route.path.replace("/blobs/{digest}", f"/blobs/{digest(CONTENT + KIND.encode())}").replace("{digest}", one)
        for route in ROUTES
        if route.identity and not route.path.startswith("/programs/")
    ]
    assert [web.get("barn", path)[0] for path in paths] == [200, 200, 200]

    web.world.ask("revoke", device="barn")

    for path in paths:
        status, body, _ = web.get("barn", path)
        assert status == 403
        assert b"expected a device that is enrolled and not revoked" in body
