"""Every door for bytes from outside, under bent inputs; and that no door is forgotten."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.conftest import ROOT
from tests.fuzz.decoder import Decoder
from tests.fuzz.decoders import BY_NAME, DECODERS
from tests.fuzz.run import Found, _once, file_name, fuzz, name_of, tried

SEED = 7
FEW, MANY = 60, 1200


@pytest.mark.parametrize("name", BY_NAME)
def test_bent_inputs_end_in_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever comes, a door takes it or refuses it by an error of ours, at once and in little memory."""
    _fuzzed(BY_NAME[name], tmp_path, FEW, capsys)


@pytest.mark.heavy
def test_many_bent_inputs_end_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same with more inputs through all doors; their counts are printed."""
    every = []
    for index, decoder in enumerate(DECODERS):
        (tmp_path / str(index)).mkdir()
        every.append(_fuzzed(decoder, tmp_path / str(index), MANY, capsys, seed=SEED + 1))
    total, crashed = sum(f.inputs for f in every), sum(f.crashed for f in every)
    with capsys.disabled():
        print(f"\n{total} bent inputs through {len(every)} doors, crashes {crashed}", end="")


def _fuzzed(decoder: Decoder, folder: Path, inputs: int, capsys: pytest.CaptureFixture[str], seed: int = SEED) -> Found:
    found = fuzz(decoder, folder, int(inputs * decoder.weight) + 1, seed)
    capsys.readouterr()
    told = [f"{what}: {name_of(data)} {data[:200]!r}" for what, data in found.crashes.items()]
    assert not told, f"{decoder.name}: {told}"
    assert found.accepted, f"{decoder.name} takes nothing: nothing is bent a little"
    return found


FOUND = sorted((Path(__file__).parent / "found").iterdir())


@pytest.mark.parametrize("path", FOUND, ids=[path.name for path in FOUND])
def test_what_once_broke_a_door_does_not_any_more(path: Path, tmp_path: Path) -> None:
    """Each input that was found by fuzzing and mended, by the name of its door and its own SHA-256."""
    door = next(d for d in DECODERS if path.name.startswith(f"{file_name(d.name)}-"))
    found = Found(door.name)
    _once(door.open(tmp_path), path.read_bytes(), found, door)
    assert not found.crashes
    assert path.name.endswith(name_of(path.read_bytes())[:12])


def test_what_a_door_may_raise_is_what_is_looked_at() -> None:
    """The harness sees a crash where there is one: an error of Python's own, and a value that does not come back."""
    from tests.fuzz.decoder import Case

    assert tried(Case((), int), b"x")[0] == "crashed"
    assert tried(Case((), lambda data: data + b"x", lambda value: value), b"")[0] == "crashed"
    assert tried(Case((), lambda data: data, lambda value: value), b"") == ("accepted", "")


# ------------------------------------------------------------------------------------------- completeness

# what takes bytes apart, by the end of the call's name
READERS = (
    "msgpack.unpackb", "json.load", "json.loads", "parse_json", "tarfile.open", "np.load",
    "numpy.load", "safe_open", "Image.open", "wave.open", "tomllib.loads", "read_toml", "csv.reader", "ZipFile",
    "b64decode", "load_pem_private_key", "load_pem_x509_certificate", "load_pem_x509_csr", "load_der_x509_certificate",
    "load_pem_x509_certificates", "from_file", "from_str", "Unpacker",
)  # fmt: skip
ROOMS = ("console", "wire", "devices", "quant", "edge", "hub")
# what none of the doors of the table goes through, and why it need not
EXEMPT = {
    "edge/slots/helper.py:_hear": "a child process of ours says how far it is",
    "edge/local/client.py:ask": "what our own agent answers on a socket of this machine",
    "edge/local/desk.py:_status": "status.json, which this process wrote itself",
    "hub/store/backup.py:_write": "an archive that we write",
    "edge/data/keepsake.py:_npz": "the same",
    "edge/identity/ask_child.py:ask_child": "a child process of ours answers",
    "edge/identity/first.py:claim_first": "one entry of agent.toml, whose type is looked at before anything else",
    "devices/memory.py:": "constants.toml is ours: it is read when the module is loaded",
    "edge/encode.py:main": "a child process of ours is asked on its standard input, by us",
    "edge/training/passages.py:main": "the same",
    "edge/trunk.py:_as_on_disk": "the label of a slab is under a digest of ours",
    "hub/serving/control.py:ask": "what our own hub answers on a socket that only its user can open",
    "hub/making/remembering.py:_index": "blobs of the hub's own, whose bytes have the SHA-256 that they are named by",
    "hub/making/remembering.py:read_slot": "the same",
    "wire/adapter.py:read_slots": "blobs of the hub's own, which entered by read_adapter",
    "wire/adapter.py:read_told": "the same",
    "edge/prove.py:golden_of": "golden values of a signed bundle, whose errors are caught",
    "edge/doctor/board.py:tables": "agent.toml, and what is wrong with it is what a doctor is for: it is caught",
    "edge/doctor/board.py:status": "status.json of the agent on this board, whose errors are caught",
    "edge/doctor/network.py:judge_certificate": "the agent's own certificate, whose errors are what is told",
    "edge/probe/cli.py:_known": "a profile, which enters by devices.profile.parse after this",
    "devices/flash/asked.py:order": "entries for agent.toml of the user's own, written as they are",
    "devices/install/cli.py:_wishes": "the same",
    "devices/install/board.py:main": "runs on a board for who installs, who sends it himself",
    "devices/install/board.py:take": "the same: an archive that we wrote, each file with its digest",
    "devices/install/root.py:tarred": "an archive that we write",
    "devices/payload/needs.py:_declared": "our own pyproject.toml",
    "devices/payload/pip.py:resolve": "the report of a pip that we started",
    "devices/payload/wheelhouse.py:_known": "an answer that we kept in a cache of this user",
    "wire/adapter.py:_ordered": "what the library wrote one line before",
    "edge/encode.py:open_tokenizer": "a file of a signed bundle; all errors of its library are caught as one",
}


def test_every_reader_in_the_code_is_behind_a_door_of_the_table(tmp_path: Path) -> None:
    """A call that takes outside bytes apart is reached by the seeds of some door, or is exempt with a reason."""
    reached = _reached(tmp_path)
    found = dict(_readers())
    lacking = {where: call for where, call in found.items() if where not in reached and where not in EXEMPT}
    assert not lacking, f"add a door to tests/fuzz/decoders.py, or a reason to EXEMPT: {lacking}"
    assert not EXEMPT.keys() - found.keys(), "an exemption of what is not there any more"


def _readers() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            tree, where = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).as_posix()
            for function, call in _calls(tree, ""):
                name = ast.unparse(call.func)
                if any(name == reader or name.endswith(f".{reader}") for reader in READERS):
                    yield f"{where}:{function}", name


def _calls(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        inner = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
        if isinstance(child, ast.Call):
            yield function, child
        yield from _calls(child, inner)


def _reached(folder: Path) -> set[str]:
    """Functions that run while the seeds go through their doors."""
    reached: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)):
            reached.add(f"{code.co_filename[len(str(ROOT)) + 1 :]}:{code.co_name}")

    for index, decoder in enumerate(DECODERS):
        place = folder / str(index)
        place.mkdir()
        case = decoder.open(place)
        sys.setprofile(note)
        try:
            for data in case.seeds:
                case.read(data)
        finally:
            sys.setprofile(None)
    return reached
