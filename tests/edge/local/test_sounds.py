"""Local programs that send sounds, or arrays: an agent with a bundle that takes tensors."""

from __future__ import annotations

import base64
import io
import json
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import StorageError
from edge import load
from edge.cli import main
from edge.data.board import board_data
from tests.edge.boards import make_board
from tests.edge.bundles import RATE, SAMPLES
from tests.edge.local.test_api import Running
from wire.files import digest


def wav(samples: Any) -> bytes:
    """A file with these 16-bit samples."""
    with io.BytesIO() as made:
        with wave.open(made, "wb") as file:
            file.setparams((1, 2, RATE, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
        return made.getvalue()


def sound(path: Path, seed: int) -> Path:
    """A WAV file as long as the model listens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(np.random.default_rng(seed).integers(-30000, 30000, SAMPLES).astype("<i2")))
    return path


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent that has four sounds of its own."""
    folder = tmp_path_factory.mktemp("hears")
    board = make_board(folder / "board", kind="sound")
    for index in range(4):
        sound(folder / "data" / "ab"[index % 2] / f"{index}.wav", index)
    board.config = replace(board.config, data=folder / "data")
    with tempfile.TemporaryDirectory() as short:
        made = Running(board, Path(short) / "a.sock")
        yield made
        made.close()


def encoded(data: bytes) -> str:
    """As JSON has it."""
    return base64.b64encode(data).decode()


def test_sounds_and_arrays_are_labelled_as_in_a_program(agent: Running, tmp_path: Path) -> None:
    """A sound as it is, in base64 and as the samples that it has: each time the scores of the Python API."""
    path = sound(tmp_path / "new.wav", 7)
    expected = load(agent.board.bundle).infer([path])[0]
    samples = np.frombuffer(path.read_bytes()[-2 * SAMPLES :], "<i2") / 32768

    plain = agent.ask("POST", "/v1/infer", path.read_bytes(), Content_Type="audio/wav")
    several = agent.ask("POST", "/v1/infer", {"sounds": [encoded(path.read_bytes())] * 2})
    arrays = agent.ask("POST", "/v1/infer", {"arrays": {"input_values": samples.tolist()}})

    assert (plain[0], several[0], arrays[0]) == (200, 200, 200)
    assert agent.ask("GET", "/v1/health")[1]["takes"] == "tensors"
    assert [one["sample"] for one in several[1]["answers"]] == [digest(path.read_bytes())] * 2
    for one in (*plain[1]["answers"], *several[1]["answers"], *arrays[1]["answers"]):
        assert one["label"] == expected["label"]
        assert one["scores"] == pytest.approx(expected["scores"], abs=1e-6)


def test_a_corrected_sound_is_a_row_of_the_next_training(agent: Running, tmp_path: Path) -> None:
    """With the name of an answer, or with the file itself; the rows have exactly its bytes."""
    asked, sent = (sound(tmp_path / f"{seed}.wav", seed).read_bytes() for seed in (8, 9))
    name = agent.ask("POST", "/v1/infer", asked, Content_Type="audio/wav")[1]["answers"][0]["sample"]

    assert agent.ask("POST", "/v1/feedback", {"sample": name, "label": "c"})[1]["new"]
    assert agent.ask("POST", "/v1/feedback", {"sound": encoded(sent), "label": "b"})[1]["new"]

    place = agent.core.setup.place
    rows = board_data(Path(place.data), agent.board.manifest, 0.0, Path(place.corrections)).train
    labels = {digest(Path(row.sample).read_bytes()): agent.board.manifest.labels[row.label] for row in rows}
    assert (len(rows), labels[digest(asked)], labels[digest(sent)]) == (6, "c", "b")


def test_the_commands_send_files(agent: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`agent infer` and `agent feedback` take paths of sounds; one that is not there is said, and nothing is sent."""
    path, at = sound(tmp_path / "told.wav", 10), ["--socket", str(agent.socket)]

    assert main(["infer", *at, "--json", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["id"] == digest(path.read_bytes())
    assert found["scores"] == pytest.approx(load(agent.board.bundle).infer([path])[0]["scores"], abs=1e-6)

    assert main(["feedback", *at, str(path), "--label", "a"]) == 0
    assert "a is kept for the next training" in capsys.readouterr().out
    assert main(["feedback", *at, found["id"], "--label", "a"]) == 0
    assert capsys.readouterr().out == "a was known already\n"
    with pytest.raises(StorageError, match="absent"):
        main(["infer", *at, str(tmp_path / "absent.wav")])


WHOLE = wav(np.zeros(SAMPLES, "<i2"))
CUT = b"RIFF\x24\x00\x00\x00WAVEfmt "
REFUSED: dict[str, tuple[str, Any, dict[str, str], int, str]] = {
    "a text": ("infer", {"text": "x"}, {}, 400, "expected sound or arrays for this bundle, found text"),
    "no sound": ("infer", b"hello", {"Content_Type": "audio/wav"}, 400, "expected the bytes of a sound file"),
    "half a sound": (
        "infer",
        CUT,
        {"Content_Type": "audio/wav"},
        400,
        "expected a WAV file at the sound of the request",
    ),
    "the second of two": (
        "infer",
        {"sounds": [encoded(WHOLE), encoded(CUT)]},
        {},
        400,
        "expected a WAV file at sound 2 of 2",
    ),
    "a picture": ("infer", b"\x89PNG", {"Content_Type": "image/png"}, 415, "application/json or audio/wav"),
    "another name": ("infer", {"arrays": {"x": [1.0]}}, {}, 400, "input_values is absent"),
    "another shape": ("infer", {"arrays": {"input_values": [1.0]}}, {}, 400, "must be [800], not [1]"),
    "no numbers": ("infer", {"arrays": {"input_values": ["x"] * SAMPLES}}, {}, 400, "no array of numbers"),
    "ragged": ("infer", {"arrays": {"input_values": [[1.0], [1.0, 2.0]]}}, {}, 400, "by name in the arrays of"),
    "arrays to learn": (
        "feedback",
        {"arrays": {"input_values": [0.5] * SAMPLES}, "label": "a"},
        {},
        400,
        "into the data",
    ),
    "half a sound to learn": ("feedback", {"sound": encoded(CUT), "label": "a"}, {}, 400, "expected a WAV file"),
}


@pytest.mark.parametrize(("path", "body", "headers", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_sound_is_said(
    agent: Running, path: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    """A request that is wrong gets its status and one sentence, nothing of it is kept, and the next one is answered."""
    kept = sorted(Path(agent.core.setup.place.corrections).rglob("*"))

    found = agent.ask("POST", f"/v1/{path}", body, **headers)

    assert found[0] == status
    assert found[1].keys() == {"error"}
    assert words in found[1]["error"]
    assert tempfile.gettempdir() not in found[1]["error"]
    assert sorted(Path(agent.core.setup.place.corrections).rglob("*")) == kept
    assert agent.ask("POST", "/v1/infer", {"arrays": {"input_values": [0.5] * SAMPLES}})[0] == 200
