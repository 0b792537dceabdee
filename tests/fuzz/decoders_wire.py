"""The doors of `wire`, `console` and `devices`: messages, envelopes, keys, manifests, adapters, pictures, TOML."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np

from console.errors import TransportError
from console.toml import read_toml
from devices import profile
from devices.fleet import Settings
from devices.fleet_file import read_fleet
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes, of_file
from tests.wire.samples import manifest
from tests.wire.test_messages import SAMPLES
from wire import https, image, messages, peft, scores
from wire.activations import CODINGS, pack_tensors, unpack_tensors
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.broker import parse_broker
from wire.bundle import MANIFEST, SIGNATURE, open_bundle
from wire.envelope import Trust, check_detached, detached, seal, unseal
from wire.keys import PrivateKey, new_key, parse_public_key, read_private_key, write_key
from wire.kinds import head, pairs
from wire.kinds.edit import HeadEdit
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.kinds.scales import Belongs, Replay, ScaleFactors, replayed
from wire.manifest import Tensor, parse_manifest
from wire.manifest import to_bytes as manifest_bytes
from wire.masks.told import told_of
from wire.pack import pack, unpack
from wire.record import plain
from wire.topics import parse_topic

LABELS = ("a", "b", "c")
FILES = {"segment0.forward.onnx": b"graph" * 9, "segment0.weights.bin": b"w", "golden.safetensors": b"g"}
BELONGS = {"a": Belongs("int4", "1" * 64, (5, 1)), "b.weight": Belongs("nf4", "2" * 64, (3, 4))}
PAIRS = ((0, 0.5), (1, -0.25), (2, 0.125), (3, 0.5))


def adapters() -> tuple[bytes, ...]:
    """Adapter files of every kind."""
    g = np.random.default_rng(1)
    lora = Lora(g.standard_normal((4, 2)).astype(np.float32), g.standard_normal((2, 3)).astype(np.float32), 2.0)
    sums = head.gather(g.standard_normal((7, 4)).astype(np.float32), np.array([0, 1, 1, 2, 0, 0, 2]), 3)
    made = Head(g.standard_normal((4, 3)).astype(np.float32), np.zeros(3, np.float32))
    rows = {head.ROWS: head.rows_text([3, 2, 2])}
    replay = Replay(7, 1, 2, PAIRS)
    found = (
        Adapter(
            "toy-1", "v" * 64, {"a.query": lora}, {"a.query": np.ones(3, np.float32)}, {0: made, 8: made}, {}, rows
        ),
        Adapter("toy-1", statistics={2: sums}),
        Adapter("toy-1", scales=ScaleFactors(BELONGS, None, replay)),
        Adapter("toy-1", scales=ScaleFactors(BELONGS, replayed(BELONGS, replay))),
        Adapter("toy-1", directions=pairs.Directions(pairs.Told(4, 2), PAIRS)),
        Adapter("toy-1", edits={0: HeadEdit(lora.a, lora.b), 8: HeadEdit(lora.a[:, :1], lora.b[:1])}),
    )
    return tuple(map(to_bytes, found))


def _message(sample: Any) -> Decoder:
    kind = type(sample)
    newer = pack({**unpack(messages.encode(sample), "m"), "from_the_future": [1, {"a": b"b"}]})
    return of_bytes(
        f"message: {kind.TYPE}",
        mutate.bent_msgpack,
        lambda data: messages.decode(data, kind),
        lambda: (messages.encode(sample), newer),
        write=messages.encode,
    )


def _envelope(folder: Path) -> Case:
    key = new_key("hub", "h")
    trust = Trust([key.public])
    return Case((seal(key, b"body"), seal(key, b"")), lambda data: unseal(data, "hub", trust, "m"))


def _detached(folder: Path) -> Case:
    key = new_key("publisher", "p")
    trust = Trust([key.public])
    return Case((detached(key, b"file"),), lambda data: check_detached(data, b"file", "publisher", trust, "f"))


def _bundle(folder: Path) -> Case:
    """A manifest that a trusted publisher signed, whatever is in it."""
    key: PrivateKey = new_key("publisher", "p")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)

    def read(data: bytes) -> Any:
        (folder / MANIFEST).write_bytes(data)
        (folder / SIGNATURE).write_bytes(detached(key, data))
        return open_bundle(folder, Trust([key.public])).manifest

    return Case((manifest_bytes(manifest(FILES)),), read, manifest_bytes)


def _border() -> tuple[bytes, ...]:
    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    return tuple(pack_tensors({"x": x, "ids": np.arange(2)}, {"x": coding}) for coding in CODINGS)


def _private_key(folder: Path) -> tuple[bytes, ...]:
    return (write_key(new_key("device", "barn-1"), folder / "made")[0].read_bytes(),)


def _score() -> tuple[bytes, ...]:
    one = scores.Score("0" * 64, 2, (3, 2, 1), (1, 2, 0))
    return (scores.to_bytes([one]), scores.to_bytes([one, one]))


def _scores_of_texts() -> tuple[bytes, ...]:
    told = scores.Tokens(2, 9, 3, 12.5, 0.25, -0.5, 41.0)
    return (scores.to_bytes([scores.Score("0" * 64, 2, (), (), tokens=told)]),)


def _peft(name: str) -> Decoder:
    """A file of a folder that PEFT wrote, beside the others as they are."""

    def opened(folder: Path) -> Case:
        slots = manifest(FILES).slots
        g = np.random.default_rng(1)
        lora = Lora(g.standard_normal((4, 2)).astype(np.float32), g.standard_normal((2, 4)).astype(np.float32), 2.0)
        made = Head(g.standard_normal((4, 3)).astype(np.float32), np.zeros(3, np.float32))
        files = peft.files_of(slots, {slots[0].name: lora}, "base", made, LABELS)
        for file, data in files.items():
            (folder / file).write_bytes(data)

        def read(data: bytes) -> Any:
            (folder / name).write_bytes(data)
            return peft.read_peft(folder, slots), peft.read_head(folder, LABELS)

        return Case((files[name],), read)

    return Decoder(f"PEFT's {name}", mutate.bent_json if name.endswith(".json") else mutate.bent_safetensors, opened)


def pictures(folder: Path) -> tuple[bytes, ...]:
    """One small picture of every format that is read."""
    import PIL.Image

    made = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 255, (12, 9, 3), np.uint8))
    found = []
    for suffix in ("png", "jpeg", "bmp", "gif", "ppm", "tiff", "webp"):
        path = folder / f"seed.{suffix}"
        made.save(path)
        found.append(path.read_bytes())
    return tuple(found)


def _picture(path: Path) -> Any:
    image.size_of(path)
    image.size_of(path, whole=True)
    return image._opened(path, "RGB").size


def _profile(path: Path) -> Any:
    return profile.parse(read_toml(path), "server", path.name)


FLEET = b"""[[device]]
name = "barn-1"
profile = "raspberry-pi-4-2gb"
rank = 8
budget = "200MiB"

[[device]]
name = "barn-2"
profile = "raspberry-pi-5-4gb"

[[chain]]
name = "c"
devices = ["barn-1", "barn-2"]
"""
BORDER = [Tensor("x", "float32", (2, 3)), Tensor("ids", "int64", (2,))]
MASKS = {"threshold": 3, "boards": 4, "bound": 8.0, "fraction_bits": 20, "width": 4, "rows": 9, "clip": 1.0}


def _as_text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(data.decode(errors="replace"))


SERVER = https.Server("hub", 8884, "")
ANSWERS = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{"a": [1, {"b": "c"}]}',
    b'HTTP/1.1 429 No\r\nRetry-After: 3\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{"error": "wait"}\r\n0\r\n\r\n',
    b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 3-6/7\r\nContent-Length: 4\r\n\r\nlmno",
)


class _Heard:
    """The end of a connection of which http.client wants a file only."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def _answer(data: bytes) -> Any:
    """As `wire.https` reads an answer, once the connection stands."""
    answer = HTTPResponse(_Heard(data))  # type: ignore[arg-type]  # all that it uses of a socket
    try:
        answer.begin()
        if answer.status >= 300:
            return str(https._refused(SERVER, answer))
        if answer.status == 206:
            return https._rest(answer, "/1/x", io.BytesIO(), 3, 7)
        return https._table(SERVER, answer)
    except (OSError, HTTPException) as error:
        raise TransportError("as _asked has it") from error


WIRE: tuple[Decoder, ...] = (
    of_bytes("tensors at a border", mutate.bent_bytes, lambda data: unpack_tensors(data, BORDER), _border),
    of_bytes(
        "MessagePack",
        mutate.bent_msgpack,
        partial(unpack, what="a message"),
        lambda: (pack({"a": [1, 2.5, None, True, b"x"], "b": {"c": "d"}}),),
        write=pack,
    ),
    *map(_message, SAMPLES),
    Decoder("envelope", mutate.bent_msgpack, _envelope),
    Decoder("signature beside a file", mutate.bent_json, _detached),
    of_bytes(
        "public key",
        mutate.bent_text,
        _as_text(partial(parse_public_key, role="hub", where="a file")),
        lambda: (new_key("hub", "h").public.line.encode(),),
        write=lambda key: key.line.encode(),
    ),
    of_file("private key", mutate.bent_text, "x.key", read_private_key, _private_key),
    of_bytes("topic", mutate.bent_text, _as_text(parse_topic), lambda: (b"edgequilt/1/farm/toy/up/barn-1/hello",)),
    of_bytes(
        "address of a broker",
        mutate.bent_text,
        _as_text(parse_broker),
        lambda: (b"mqtts://[::1]:8883", b"mqtt://host:1883"),
    ),
    of_bytes(
        "manifest", mutate.bent_json, parse_manifest, lambda: (manifest_bytes(manifest(FILES)),), write=manifest_bytes
    ),
    Decoder("signed bundle", mutate.bent_json, _bundle, weight=0.3),
    of_bytes(
        "adapter", mutate.bent_safetensors, partial(read_adapter, where="a file"), adapters, write=to_bytes, weight=2
    ),
    of_bytes(
        "scores",
        mutate.bent_json,
        partial(scores.read_scores, classes=3, where="a file"),
        _score,
        write=scores.to_bytes,
    ),
    of_bytes(
        "scores of texts",
        mutate.bent_json,
        partial(scores.read_scores, classes=0, where="a file"),
        _scores_of_texts,
        write=scores.to_bytes,
        weight=0.5,
    ),
    of_bytes("answer of a hub over HTTPS", mutate.bent_text, _answer, lambda: ANSWERS),
    _peft(peft.CONFIG),
    _peft(peft.WEIGHTS),
    _peft(peft.HEAD),
    _peft(peft.LABELS),
    of_bytes(
        "terms of masks",
        mutate.bent_msgpack,
        lambda data: told_of({"secure": unpack(data, "terms")}),
        lambda: (pack(MASKS),),
        write=lambda told: pack(plain(told)),
    ),
    of_file("picture", mutate.bent_bytes, "x.png", _picture, pictures, memory_bytes=64 << 20),
    of_file(
        "profile of a board",
        mutate.bent_toml,
        "server.toml",
        _profile,
        lambda folder: ((profile.FOLDER / "server.toml").read_bytes(),),
    ),
    of_file(
        "fleet file",
        mutate.bent_toml,
        "fleet.toml",
        lambda path: read_fleet(path, Settings("train", "fp32", ("fp32", "int8"))),
        lambda folder: (FLEET,),
    ),
)
