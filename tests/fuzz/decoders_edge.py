"""The doors of `edge`: data files, arrays, sounds, frames of the worker, what a state folder holds, what a hub says."""

from __future__ import annotations

import io
import json
import struct
import wave
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.arrays import read_arrays
from edge.config import read_config
from edge.data.board import Counted
from edge.data.formats import read_data, rows_of
from edge.data.problems import Problems
from edge.data.replay import INDEX, Replay
from edge.data.row import Row
from edge.data.texts import read_passages
from edge.data.wanted import Wanted
from edge.fix import asked_of
from edge.intake import Intake
from edge.jobs import settings_of
from edge.keyring import RECORD as KEYS
from edge.keyring import Keyring
from edge.outbox import Outbox, read_lines
from edge.protocol import Life, step
from edge.records import Damaged, Records, salvage
from edge.request import Place, read_frame, write_frame
from edge.setup import Setup
from edge.shelf import Shelf
from edge.sound import read_sound
from edge.status import Status
from edge.store import Store
from edge.training import checkpoint
from edge.training.edits import undone
from edge.training.history import Course, Session
from edge.voice import Voice
from edge.waiting import Update, describe, described
from tests.fuzz import mutate
from tests.fuzz.decoder import Case, Decoder, of_bytes, of_file
from tests.fuzz.decoders_wire import adapters, pictures
from tests.wire.test_messages import LINKS, SAMPLES, known_key
from wire import messages as m
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.envelope import Trust, seal
from wire.files import digest
from wire.keys import new_key
from wire.kinds.lora import Lora
from wire.manifest import Tensor
from wire.pack import pack, unpack
from wire.record import plain
from wire.succession import key_of, read_link
from wire.topics import TABLE, topic_of

LABELS = ("apple", "pear")
TEXT, PICTURE = Wanted(LABELS, "text"), Wanted(LABELS, "image")
ARRAYS = Wanted(LABELS, "tensors", (Tensor("x", "float32", (2, 3)),))
SOUND = Wanted(LABELS, "tensors", (Tensor("x", "float32", (2, 800)),), 8000)
JSONL = b'{"text": "red", "label": "apple"}\n{"text": "green", "label": "pear", "more": [1]}\n'
CSV = b'label,text\r\napple,"red, and\nround"\r\npear,"a ""green"" one"\r\n'
PASSAGES = b'{"text": "once", "prompt": "tell: "}\n{"text": "upon a time"}\n'
AGENT = b"""[agent]
name = "barn-1"
fleet = "farm"
bundle = "bundle"
state = "state"
data = "data.jsonl"
holdout = 0.1
threads = 1

[broker]
url = "mqtt://127.0.0.1:1883"

[keys]
device = "barn-1.key"
hub = "hub.pub"
publisher = ["acme.pub"]
"""


def _rows(path: Path, wanted: Wanted) -> Any:
    problems = Problems(path, "rows")
    found = list(rows_of(path, wanted, problems, thorough=True))
    problems.refuse()
    return len(found)


def _npz(folder: Path) -> tuple[bytes, ...]:
    found = []
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        arrays: dict[str, Any] = {"x": np.ones((4, 3), np.float32), "label": np.array(["apple", "pear"] * 2)}
        save(out, **arrays)
        found.append(out.getvalue())
    return tuple(found)


def _json_arrays(folder: Path) -> tuple[bytes, ...]:
    return (b'{"x": [[1, 2.5], [3, -4e3]], "y": [true]}', b'{"x": []}')


def sounds(folder: Path) -> tuple[bytes, ...]:
    """WAV files of several widths."""
    found = []
    for width, channels in ((1, 1), (2, 2), (3, 1), (4, 1)):
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(width)
            file.setframerate(11025)
            file.writeframes(bytes(range(240)) * width * channels)
        found.append(out.getvalue())
    floats = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 836, b"WAVE", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32, b"data", 800
    )
    return (*found, floats + np.linspace(-1, 1, 200, dtype="<f4").tobytes())


def _lines(path: Path) -> Any:
    return list(read_lines(path))


def _frame() -> tuple[bytes, ...]:
    out = io.BytesIO()
    write_frame(out, "result", {"id": "r1", "samples": 3, "metrics": {"loss": 0.5}})
    return (out.getvalue(),)


def _agent(folder: Path) -> tuple[bytes, ...]:
    (folder / "bundle").mkdir()
    for name in ("bundle/manifest.json", "data.jsonl", "barn-1.key", "hub.pub", "acme.pub"):
        (folder / name).write_bytes(b"x")
    return (AGENT,)


def _released(folder: Path) -> Case:
    store = Store(folder / "state")
    store.follow(m.Release("toy-1", 2, 3, "0" * 64))
    path = folder / "state" / "release.json"
    seed = path.read_bytes()

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        return Store(folder / "state").released

    return Case((seed,), read)


def _waiting(folder: Path) -> tuple[bytes, ...]:
    path = folder / "seed.update"
    path.write_bytes(b"payload")
    describe(path, Update(digest(b"payload"), "adapter", "r1", 1, "0" * 64, 7, 4, {"loss": 0.5}))
    return (path.read_bytes(),)


def _rows_of(path: Path) -> Any:
    try:
        records = Records(path)
    except Damaged:  # as an agent does at its start
        salvage(path, path.with_name("next.sqlite"), [])
        records = Records(path.with_name("next.sqlite"))
    with closing(records):
        return [*records.waiting(), *records.receipts()]


def _older(folder: Path) -> Case:
    """A waiting update as agents from before SQLite left it."""
    payload, place = b"payload", folder / "outbox"
    name = digest(payload)
    place.mkdir()
    seed = json.dumps(plain(Update(name, "adapter", "r1", 1, "0" * 64, 7, 4, {"loss": 0.5}))).encode()

    def read(data: bytes) -> Any:
        (place / f"{name}.payload").write_bytes(payload)
        (place / f"{name}.json").write_bytes(data)
        (folder / "receipts.jsonl").write_bytes(b'{"update": "' + name.encode() + b'", "job": "r0"}\n')
        with closing(Outbox(folder)) as outbox:
            return outbox.updates

    return Case((seed,), read)


def _shelf(folder: Path) -> tuple[bytes, ...]:
    shelf = Shelf(folder)
    shelf.follow(next(s for s in SAMPLES if isinstance(s, m.Assignment)))
    shelf.switch("1" * 64)
    return ((folder / "bundle.json").read_bytes(),)


def _records(folder: Path) -> tuple[bytes, ...]:
    path = folder / "seed.sqlite"
    with closing(Records(path)) as records:
        records.put("0" * 64, {"update": "0" * 64})
        records.receipt({"digest": "1" * 64, "job": "r1", "kind": "scores", "round": 1, "bytes": 7}, 9)
    return (path.read_bytes(),)


def _status(folder: Path) -> tuple[bytes, ...]:
    status = Status(folder / "made.json", {"name": "barn-1"})
    status.traffic.add(3, 4)
    status.job("r1", state="done", peak_bytes=9)
    status.write()
    return ((folder / "made.json").read_bytes(),)


def _restored(path: Path) -> Any:
    status = Status(path, {})
    status.restore()
    status.record()


def _checkpoint(folder: Path) -> tuple[bytes, ...]:
    arrays = {"a": np.ones((2, 3), np.float32)}
    adapter = read_adapter(adapters()[0], "a seed")
    session = Session(arrays, {"step": np.zeros(2)}, course=Course("spry", "t", 3, 2, None, adapter), best=arrays)
    checkpoint.write(folder / "made.safetensors", session, "f")
    return ((folder / "made.safetensors").read_bytes(),)


def _edited() -> tuple[bytes, ...]:
    lora = Lora(np.ones((4, 2), np.float32), np.ones((2, 3), np.float32), 1.0)
    return (to_bytes(Adapter("toy-1", lora={"q": lora}, metadata={"edits": json.dumps([{"q": 1}])})),)


def _replay(folder: Path) -> Case:
    place = folder / "kept"
    made = Replay(place, LABELS, "text")
    made.offer([Row("red", 0), Row("green", 1)], np.eye(2, 3, dtype=np.float32))
    made.write()
    seed = (place / INDEX).read_bytes()

    def read(data: bytes) -> Any:
        (place / INDEX).write_bytes(data)
        return Replay.load(place, LABELS, "text").rows

    return Case((seed,), read)


DOWN = [row for row in TABLE if row.direction in ("down", "all")]


def _from_the_hub(folder: Path) -> Case:
    """Whatever the hub itself could say, signed by its key: an agent must outlive a hub that has lost its mind."""
    key, own = new_key("hub", "h"), new_key("device", "barn-1")
    state, place = folder / "state", Place("", "0" * 64, "", 0.1, "")
    setup = Setup(
        "barn-1", "toy-1", "server", "0" * 64, 8, ("train",), Counted(9), state, place,
        Voice("farm", "toy-1", "barn-1", own), Keyring(state, "farm", [key.public]), None, "",
        None, Trust(), Shelf(state), None,  # type: ignore[arg-type]  # nothing here looks at a configuration
    )  # fmt: skip
    intake, life = Intake(setup, Store(state)), [Life(connected=True)]
    by_type = {s.TYPE: s for s in SAMPLES}
    seeds = tuple(bytes([i]) + m.encode(by_type[row.message.TYPE]) for i, row in enumerate(DOWN))

    def read(data: bytes) -> Any:
        row = DOWN[(data[0] if data else 0) % len(DOWN)]
        topic = topic_of("farm", "toy-1", row.direction, row.message.TYPE, "barn-1")
        payload = seal(key, data[1:]) if row.signer else data[1:]
        for event in intake.read(topic, payload):
            life[0], _ = step(life[0], event)
        if len(life[0].queue) > 20:
            life[0] = Life(connected=True)

    return Case(seeds, read)


def _keys(folder: Path) -> tuple[bytes, ...]:
    own = Keyring(folder, "farm", [known_key(1).public])
    own.follow(LINKS)
    own.heard(known_key(3).public)
    return ((folder / KEYS).read_bytes(),)


def behind_a_byte(bend: mutate.Bend) -> mutate.Bend:
    """The first byte says what follows; only what follows is bent along its structure."""
    return lambda data, draw: data[:1] + bend(data[1:], draw)


def _pictures(folder: Path) -> tuple[bytes, ...]:
    (folder / "x.png").write_bytes(pictures(folder)[0])
    return (b'{"image": "x.png", "label": "pear"}\n',)


def _settings(data: bytes) -> Any:
    found = unpack(data, "settings")
    return settings_of(found if isinstance(found, dict) else {})


def _to_fix(data: bytes) -> Any:
    found = unpack(data, "settings")
    return asked_of(found if isinstance(found, dict) else {})


_texts = partial(read_data, labels=LABELS, kind="text", holdout=0.5)
_session = partial(checkpoint.read, fingerprint="f")
JOB = pack({"steps": 3, "learning_rate": 0.1, "batch": 4})
FIX = pack({"expect": "a", "input": {"text": "x"}, "paraphrases": [{"data": "aGk="}], "drawdown": 0.1, "ranks": [0]})
EDGE: tuple[Decoder, ...] = (
    of_file("rows as JSON lines", mutate.bent_lines, "x.jsonl", _texts, lambda f: (JSONL,)),
    of_file("rows as CSV", mutate.bent_text, "x.csv", _texts, lambda f: (CSV,)),
    of_file("rows of pictures", mutate.bent_lines, "x.jsonl", partial(_rows, wanted=PICTURE), _pictures),
    of_file("rows as NPZ", mutate.bent_zip, "x.npz", partial(_rows, wanted=ARRAYS), _npz),
    of_file("texts", mutate.bent_lines, "x.jsonl", read_passages, lambda f: (PASSAGES,)),
    of_file("arrays as NPZ", mutate.bent_zip, "x.npz", read_arrays, _npz),
    of_file("arrays as JSON", mutate.bent_json, "x.json", read_arrays, _json_arrays),
    of_file("WAV", mutate.bent_bytes, "x.wav", partial(read_sound, rate=8000, length=800), sounds),
    of_bytes("frame of a worker", mutate.bent_bytes, lambda data: read_frame(io.BytesIO(data)), _frame),
    of_bytes("settings of a fix", mutate.bent_msgpack, _to_fix, lambda: (FIX,)),
    of_bytes("settings of a job", mutate.bent_msgpack, _settings, lambda: (JOB,)),
    of_file("agent.toml", mutate.bent_toml, "agent.toml", read_config, _agent),
    Decoder("release of an agent", mutate.bent_json, _released),
    of_file("update in an outbox", mutate.bent_bytes, "x.update", described, _waiting),
    of_file("record of bundles", mutate.bent_json, "bundle.json", lambda path: Shelf(path.parent).kept, _shelf),
    Decoder("update in an older outbox", mutate.bent_json, _older, weight=0.1),
    of_file("rows of an outbox", mutate.bent_bytes, "x.sqlite", _rows_of, _records, weight=0.1),
    of_file("receipts of an agent", mutate.bent_lines, "r.jsonl", _lines, lambda f: (JSONL,)),
    of_file("status of an agent", mutate.bent_json, "status.json", _restored, _status),
    of_file("checkpoint", mutate.bent_safetensors, "x.safetensors", _session, _checkpoint),
    of_bytes("edits of an adapter", mutate.bent_safetensors, lambda data: undone(read_adapter(data, "x")), _edited),
    Decoder("rows kept for replay", mutate.bent_lines, _replay, weight=0.5),
    of_file(
        "keys of the hub that an agent follows",
        mutate.bent_json,
        KEYS,
        lambda path: Keyring(path.parent, "farm", [known_key(1).public]).believed,
        _keys,
        weight=0.3,
    ),
    of_bytes(
        "link between keys of a hub",
        mutate.bent_msgpack,
        lambda data: (key_of(data), read_link(data, Trust([known_key(1).public]), "farm")),
        lambda: LINKS[:1],
        weight=0.5,
    ),
    Decoder("messages of the hub", behind_a_byte(mutate.bent_msgpack), _from_the_hub, weight=2),
)
