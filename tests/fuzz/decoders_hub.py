"""The doors of `hub`: what boards say, signing requests, backups, hub.toml, the local socket, adapters to import."""

from __future__ import annotations

import base64
import json
import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from console.errors import HubError
from hub import authority
from hub.config import read_config
from hub.fixes.asking import settings_of
from hub.identity.rotation import CHAIN, chain
from hub.making.model import Model
from hub.serving.asked import Asked
from hub.serving.check import check
from hub.serving.control import ControlServer
from hub.store import registry
from hub.store.backup import back_up
from hub.store.partial_files import FilePartials
from hub.store.restore import unpack as unpack_backup
from hub.web import routes
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes, of_file
from tests.fuzz.decoders_edge import behind_a_byte
from tests.hub.bundles import manifest, write_bundle
from tests.hub.world import World
from tests.wire.test_messages import LINKS, SAMPLES
from wire import messages as m
from wire.adapter import Adapter, to_bytes
from wire.chunks import cut
from wire.envelope import seal
from wire.files import digest
from wire.fixes import KEY, AtRank, Report, text_of
from wire.json_text import parse_json
from wire.keys import new_key, write_key
from wire.kinds.edit import HeadEdit
from wire.kinds.head import ROWS, Head, gather, rows_text
from wire.kinds.lora import Lora
from wire.scores import Score
from wire.scores import to_bytes as scores_to_bytes
from wire.thin.coding import thinned
from wire.thin.table import codec_of
from wire.tls import new_request
from wire.topics import TABLE, parse_topic, topic_of

CODECS = ("fp16", "int8", "int4", "top:0.05")
UP = [row for row in TABLE if row.direction == "up"]


def _world(folder: Path) -> World:
    publisher = new_key("publisher", "acme")
    _, public = write_key(publisher, folder)
    registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
    bundle = write_bundle(folder / "bundle", publisher, *manifest())
    home = registry.open_home(folder / "hub")
    registry.add_bundle(home, bundle)
    home.ledger.close()
    return World(folder, publisher)


def _from_a_board(folder: Path) -> Case:
    """Whatever an enrolled board could say, signed by its key, while a round waits for it."""
    world = _world(folder)
    world.settle()
    number = world.ask("open", kind="train")["round"]
    world.network.pump()
    device, service = world.devices["barn"], world.hub
    base = next(iter(service.home.ledger.versions()))["digest"]
    job = f"r{number}-train-barn"
    data = b"no adapter" * 9
    by = lambda: m.Sender("barn", "boot", 1)  # noqa: E731  # short
    samples: dict[str, Any] = {s.TYPE: replace(s, sender=by()) for s in SAMPLES if hasattr(s, "sender")} | {
        "hello": m.Hello(by(), "0.1.0", "server", "0" * 64, 2, ("train",), 9),
        "presence": m.Presence(by(), "online"),
        "begin": m.Begin(by(), digest(data), "adapter", job, number, base, len(data), 9, metrics={"loss": 0.5}),
        "chunk": m.Chunk(digest(data), 0, 1, data),
        "commit": m.Commit(by(), digest(data)),
        "fetch": m.Fetch(by(), base, (0,)),
        "failed": m.Failed(by(), "no such job", "no room"),
        "maskkeys": m.MaskKeys(by(), job, number, b"\1" * 32, b"\2" * 32, b"\3" * 32),
        "maskshares": m.MaskShares(by(), job, {"coop": b"\0\1"}),
        "maskagreed": m.MaskAgreed(by(), job, {"coop": b"\4" * 32}),
        "maskreveal": m.MaskReveal(by(), job, {"barn": b"\0"}, {"coop": b"\1"}),
    }
    seeds = tuple(bytes([i]) + m.encode(samples[row.message.TYPE]) for i, row in enumerate(UP))
    taken = 0

    def read(data: bytes) -> Any:
        nonlocal taken
        row, taken = UP[(data[0] if data else 0) % len(UP)], taken + 1
        address = parse_topic(topic_of("farm", "tiny", "up", row.message.TYPE, "barn"))
        assert address is not None
        if taken % 100 == 0:
            world.network.queue.clear() if hasattr(world.network, "queue") else None
            service.tick()
        service._take(address, seal(device.key, data[1:]) if row.signer else data[1:])

    return Case(seeds, read)


def _update(folder: Path) -> Case:
    """What a board learned, as it is looked at before a receipt: factors with a head, sums, scores."""
    world = _world(folder)
    known = next(iter(registry.models(world.hub.home).values()))
    base, g = digest(b"a version"), np.random.default_rng(1)
    begin = m.Begin(m.Sender("barn", "boot", 1), base, "adapter", "r1-train-barn", 1, base, 9, 7)
    lora = {
        slot.name: Lora(_normal(g, slot.features_in, 2), _normal(g, 2, slot.features_out), 1.0) for slot in known.slots
    }
    made = Head(_normal(g, known.features, 3), _normal(g, 3))
    sums = gather(_normal(g, 7, known.features), np.arange(7) % 3, 3)
    files = {
        "adapter": to_bytes(Adapter("tiny", base, lora, heads={2: made}, metadata={ROWS: rows_text([3, 2, 2])})),
        "statistics": to_bytes(Adapter("tiny", base, statistics={2: sums})),
        "scores": scores_to_bytes([Score(base, 2, (3, 2, 1), (1, 2, 0))]),
        "edit": to_bytes(_edit(base, _normal(g, known.features, 1), _normal(g, 1, 3))),
    }
    kinds = list(files)
    asked = Asked(4, (base,), (2,), head=True)

    def read(data: bytes) -> Any:
        kind = kinds[(data[0] if data else 0) % len(kinds)]
        check(data[1:], replace(begin, kind=kind), known, asked)  # type: ignore[arg-type]  # one of them

    return Case(tuple(bytes([i]) + files[kind] for i, kind in enumerate(kinds)), read)


def _edit(base: str, a: Any, b: Any) -> Adapter:
    """What a server agent answers with."""
    report = Report(1, "r1-fix-barn", 9, 1, False, (AtRank(2, "a", True, 0.5, 1, 7, 0, 1),))
    return Adapter("tiny", base, edits={2: HeadEdit(a, b)}, metadata={KEY: text_of(report)})


def _thin(folder: Path) -> Case:
    """The same, thin by each way: differences from what was sent, and of a version that the file itself names."""
    world = _world(folder)
    known = next(iter(registry.models(world.hub.home).values()))
    base, g = digest(b"a version"), np.random.default_rng(1)
    begin = m.Begin(m.Sender("barn", "boot", 1), base, "adapter", "r1-train-barn", 1, base, 9, 7)

    def factors() -> dict[str, Lora]:
        return {s.name: Lora(_normal(g, s.features_in, 2), _normal(g, 2, s.features_out), 1.0) for s in known.slots}

    sent, learned = Adapter("tiny", base, factors()), Adapter("tiny", base, factors())
    starts = {base: sent}  # of any other version it ends in a KeyError, which no door may
    seeds = []
    for index, name in enumerate(CODECS):
        thin, _ = thinned(learned, sent, codec_of(name), "both", Adapter("tiny"))
        seeds.append(bytes([index]) + to_bytes(thin))

    def read(data: bytes) -> Any:
        name = CODECS[(data[0] if data else 0) % len(CODECS)]
        asked = Asked(4, (base,), start=lambda digest, rank: starts[digest], thin=name)
        check(data[1:], begin, known, asked)

    return Case(tuple(seeds), read)


def _normal(g: np.random.Generator, *shape: int) -> Any:
    return g.standard_normal(shape).astype(np.float32)


def _bent_update(data: bytes, draw: random.Random) -> bytes:
    bend = mutate.bent_json if data[:1] == b"\2" else mutate.bent_safetensors
    return data[:1] + bend(data[1:], draw)


def _authority(folder: Path) -> authority.Authority:
    return authority.create("farm", folder / "ca")


def _signing(folder: Path) -> Case:
    own = _authority(folder)
    _, request = new_request("barn-1", folder)
    return Case((request.read_bytes(),), lambda data: authority.issue_device(own, "barn-1", data))


def _authority_file(name: str) -> Decoder:
    def opened(folder: Path) -> Case:
        _authority(folder)
        path = folder / "ca" / name
        seed = path.read_bytes()

        def read(data: bytes) -> Any:
            path.write_bytes(data)
            return authority.load(folder / "ca")

        return Case((seed,), read)

    return Decoder(f"authority: {name}", mutate.bent_text, opened)


def _backup(folder: Path) -> Case:
    world = _world(folder)
    world.hub.close()
    back_up(folder / "hub", folder / "made.tar", keys=True)
    path, count = folder / "x.tar", 0

    def read(data: bytes) -> Any:
        nonlocal count
        count += 1
        path.write_bytes(data)
        place = folder / "out" / str(count)
        try:
            return unpack_backup(path, place)
        finally:
            _emptied(place)

    return Case(((folder / "made.tar").read_bytes(),), read)


def _emptied(place: Path) -> None:
    import shutil

    shutil.rmtree(place, ignore_errors=True)


def _hub_toml(folder: Path) -> tuple[bytes, ...]:
    _, public = write_key(new_key("publisher", "acme"), folder)
    registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
    return ((folder / "hub" / "hub.toml").read_bytes(),)


def _control(folder: Path) -> Case:
    """The server's end of the socket; whatever comes, one line of JSON goes back."""
    server = ControlServer(folder, lambda request: {"heard": request})

    def read(data: bytes) -> Any:
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(data[:60000] + b"\n")
            ours.shutdown(socket.SHUT_WR)
            server._serve(theirs)
            ours.setblocking(False)
            reply = b""
            while block := ours.recv(1 << 20):
                reply += block
        answer = json.loads(reply)
        assert set(answer) <= {"ok", "error"}, answer
        assert "could not answer" not in str(answer.get("error")), answer

    return Case((b'{"request": "status", "more": [1, {"a": null}]}', b'{"request": "open", "kind": "train"}'), read)


def _request(data: bytes) -> Any:
    try:
        return routes.Asked({}, {}, data, "192.0.2.1", "barn-1").json()
    except routes.Refusal as refusal:  # what the server answers with
        raise HubError(str(refusal)) from refusal


TEXT_TO_FIX = b'{"input": {"text": "red sun"}, "expect": "a", "paraphrases": [{"text": "sun"}], "drawdown": 0.1}'
FILE_TO_FIX = b'{"input": {"data": "aGVsbG8="}, "expect": "b", "rank": 1, "dry_run": true, "by": "ann"}'


def _asked_to_fix(data: bytes) -> Any:
    """As the local socket hands it on, to a model of texts and to one of pictures."""
    try:
        request = parse_json(data)
    except ValueError as error:
        raise HubError(str(error)) from error
    found = request if isinstance(request, dict) else {}
    return settings_of(found, Model("tiny", (), ("a", "b"), 4), "image" if b'"data"' in data else "text")


ON_ITS_WAY = bytes(range(256)) * 10


def _parts(folder: Path) -> tuple[bytes, ...]:
    """A file of an update of which two of three chunks are here."""
    store, name = FilePartials(folder), digest(ON_ITS_WAY)
    store.put(
        m.Begin(m.Sender("barn", "b", 1), name, "adapter", "r1", 1, "0" * 64, len(ON_ITS_WAY), 8, chunk_bytes=1024)
    )
    for chunk in cut(ON_ITS_WAY, (0, 2), 1024):
        store.add("barn", chunk)
    return ((folder / "barn" / f"{name}.part").read_bytes(),)


def _on_its_way(path: Path) -> Any:
    """A hub starts with the file, takes the last chunk, and looks."""
    store = FilePartials(path.parent.parent)
    store.entries()
    store.add("barn", cut(ON_ITS_WAY, (1,), 1024)[0])
    found = store.get("barn", path.stem)
    return found and (found.missing, store.join("barn", path.stem))


def _chain(folder: Path) -> tuple[bytes, ...]:
    return (json.dumps({"schema": 1, "links": [base64.b64encode(link).decode() for link in LINKS]}).encode(),)


HUB: tuple[Decoder, ...] = (
    Decoder("messages of a board", behind_a_byte(mutate.bent_msgpack), _from_a_board, weight=1),
    Decoder("content of an update", _bent_update, _update, weight=2),
    Decoder("content of a thin update", behind_a_byte(mutate.bent_safetensors), _thin),
    Decoder("signing request", mutate.bent_text, _signing, weight=0.2),
    _authority_file(authority.SECRET),
    _authority_file(authority.CERTIFICATE),
    Decoder("backup", mutate.bent_tar, _backup, weight=0.1),
    of_file("update on its way", mutate.bent_bytes, f"barn/{digest(ON_ITS_WAY)}.part", _on_its_way, _parts, weight=0.5),
    of_file("chain of a hub's keys", mutate.bent_json, CHAIN, lambda path: chain(path.parent), _chain, weight=0.5),
    of_file("hub.toml", mutate.bent_toml, "hub.toml", lambda path: read_config(path.parent), _hub_toml),
    of_bytes("input of a fix", mutate.bent_json, _asked_to_fix, lambda: (TEXT_TO_FIX, FILE_TO_FIX)),
    of_bytes("request over HTTPS", mutate.bent_json, _request, lambda: (b'{"a": [1, {"b": null}]}',)),
    Decoder("line of the local socket", mutate.bent_json, _control, weight=0.5),
)
