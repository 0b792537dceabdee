"""Local requests to a core among a hub, with the process that answers as it is; and what becomes of feedback."""

from __future__ import annotations

import base64
import io
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge import load
from edge.data.board import board_data
from edge.local.api import LocalApi, opened
from edge.local.table import Local
from tests.edge.boards import NAME, Board, Farm, HereLink, jobs, make_board
from tests.edge.local.programs import ask
from wire.files import digest
from wire.memory import Network


class Running:
    """An agent whose core turns in a thread, with its local API."""

    def __init__(self, board: Board, socket: Path) -> None:
        self.board, self.socket = board, socket
        board.config = replace(board.config, local=Local(socket=socket))
        self.link = HereLink()
        self.farm = Farm(board, Network(), self.link)
        self.core = self.farm.start()
        api = opened(self.core)
        assert api is not None
        self.api: LocalApi = api
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def _turn(self) -> None:
        while not self._stop.is_set():
            self.farm.run(seconds=1)
            time.sleep(0.005)

    def until(self, true: Callable[[], Any], seconds: float = 30) -> bool:
        """Wait for something."""
        end = time.monotonic() + seconds
        while not true() and time.monotonic() < end:
            time.sleep(0.01)
        return bool(true())

    def ask(self, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """One request."""
        return ask(self.socket, method, url, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def stop(self) -> None:
        """Have its core turn no more."""
        self._stop.set()
        self._thread.join()

    def close(self) -> None:
        """End it."""
        self.stop()
        self.api.close()
        assert self.core.setup.lock is not None
        self.core.setup.lock.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent with a text bundle that serves version 1."""
    with tempfile.TemporaryDirectory() as short:
        running = Running(make_board(tmp_path_factory.mktemp("api")), Path(short) / "a.sock")
        farm = running.farm
        farm.hub.release(farm.hub.publish_version(running.board.manifest, 1), 1, 1)
        assert running.until(lambda: running.core.store.released.served is not None)
        yield running
        running.close()


def test_texts_are_labelled_as_in_a_program(agent: Running) -> None:
    """Labels and scores are those of the Python API with the version that is served; samples are named by SHA-256."""
    from edge.model import serving

    texts = ["red sun", "blue sea", "green leaf"]
    expected = serving(agent.board.config).infer(texts)

    status, found = agent.ask("POST", "/v1/infer", {"texts": texts})

    assert status == 200
    assert found["version"] == {"version": 1, "digest": agent.core.store.released.served.digest}  # type: ignore[union-attr]
    assert [one["sample"] for one in found["answers"]] == [digest(text.encode()) for text in texts]
    for one, wanted in zip(found["answers"], expected, strict=True):
        assert one["label"] == wanted["label"]
        assert one["score"] == one["scores"][one["label"]]
        assert one["scores"] == pytest.approx(wanted["scores"], abs=1e-6)
    plain = agent.ask("POST", "/v1/infer", b"red sun", Content_Type="text/plain; charset=utf-8")[1]
    assert plain["answers"] == found["answers"][:1]
    assert agent.ask("POST", "/v1/infer", {"text": "red sun", "top": 1})[1]["answers"][0]["scores"].keys() == {
        expected[0]["label"]
    }


def test_status_and_health(agent: Running) -> None:
    """Status is what the agent writes, with what it was asked; health is short and says who is there."""
    agent.ask("POST", "/v1/infer", {"text": "sea"})

    status, found = agent.ask("GET", "/v1/status")
    assert (status, found["device"], found["training"]["state"]) == (200, NAME, "none")
    assert found["local"]["requests"] > 0
    assert found["samples"] >= 24
    assert agent.ask("GET", "/v1/health") == (
        200,
        {
            "ok": True,
            "device": NAME,
            "takes": "text",
            "warm": True,
            "version": {"version": 1, "digest": found["released"]["digest"]},
        },
    )


def test_a_corrected_label_is_in_the_rows_of_the_next_training(agent: Running) -> None:
    """A label corrected by the name of an answer, or with its sample, wins over the data's; the last one counts."""
    place = agent.core.setup.place
    line = json.loads(agent.board.config.data.read_text().splitlines()[0])
    wrong = line["text"], line["label"]
    others = [label for label in agent.board.manifest.labels if label != wrong[1]]
    before = agent.core.data.counted.rows

    name = agent.ask("POST", "/v1/infer", {"text": wrong[0]})[1]["answers"][0]["sample"]
    assert agent.ask("POST", "/v1/feedback", {"sample": name, "label": others[0]})[0] == 200
    status, found = agent.ask("POST", "/v1/feedback", {"sample": name, "label": others[1]})
    assert (status, found["new"], found["sample"], found["label"]) == (200, True, name, others[1])
    assert not agent.ask("POST", "/v1/feedback", {"sample": name, "label": others[1]})[1]["new"]
    assert agent.ask("POST", "/v1/feedback", {"text": "leaf leaf leaf", "label": "a"})[1]["new"]

    assert agent.until(lambda: agent.core.data.counted.rows == before + 1)
    rows = board_data(Path(place.data), agent.board.manifest, 0.0, Path(place.corrections)).train
    labels = agent.board.manifest.labels
    assert [labels[row.label] for row in rows if row.sample == wrong[0]] == [others[1]]
    assert [labels[row.label] for row in rows if row.sample == "leaf leaf leaf"] == ["a"]
    version = agent.farm.hub.publish_version(agent.board.manifest, 2)
    statistics = jobs(version, 7)[1]
    agent.farm.hub.ask(statistics)
    assert agent.until(lambda: not agent.farm.hub.open)
    kept = board_data(Path(place.data), agent.board.manifest, place.holdout, Path(place.corrections))
    begin = next(b for b, _ in agent.farm.hub.accepted.values() if b.job == statistics.job)
    assert begin.samples == len(kept.train)


REFUSED: dict[str, tuple[str, str, Any, dict[str, str], int, str]] = {
    "an unknown path": ("GET", "/v2/infer", None, {}, 404, "expected one of /v1/health, /v1/status"),
    "another method": ("GET", "/v1/infer", None, {}, 405, "expected POST here, found GET"),
    "no JSON": ("POST", "/v1/infer", b"{", {}, 400, "expected JSON, found something else"),
    "no sample": ("POST", "/v1/infer", {}, {}, 400, "expected text with one to 32 samples, found 0"),
    "too many": ("POST", "/v1/infer", {"texts": ["x"] * 33}, {}, 400, "one to 32 samples, found 33"),
    "an empty text": ("POST", "/v1/infer", {"text": " "}, {}, 400, "expected text with something in it"),
    "a number": ("POST", "/v1/infer", {"text": 7}, {}, 400, "text: expected"),
    "a picture": ("POST", "/v1/infer", {"image": "aGVsbG8="}, {}, 400, "expected text for this bundle, found image"),
    "no base64": ("POST", "/v1/infer", {"image": "???"}, {}, 400, "expected base64"),
    "bytes of a picture": ("POST", "/v1/infer", b"\x89PNG", {"Content_Type": "image/png"}, 415, "or text/plain for"),
    "no UTF-8": ("POST", "/v1/infer", b"\xff", {"Content_Type": "text/plain"}, 400, "expected UTF-8, found byte 0xff"),
    "an unknown label": (
        "POST",
        "/v1/feedback",
        {"text": "x", "label": "moth"},
        {},
        400,
        "labels a, b, c, found 'moth'",
    ),
    "a label of nothing": ("POST", "/v1/feedback", {"label": "a"}, {}, 400, "expected either sample"),
    "an unknown sample": ("POST", "/v1/feedback", {"sample": "0" * 64, "label": "a"}, {}, 404, "send it itself"),
    "no name": ("POST", "/v1/feedback", {"sample": "x", "label": "a"}, {}, 400, "sample: expected"),
    "a bundle that does not generate": ("POST", "/v1/generate", {"prompt": "x"}, {}, 409, "goes on from a text"),
}


@pytest.mark.parametrize(("method", "url", "body", "headers", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_answered_is_said(
    agent: Running, method: str, url: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    """A request that is wrong gets its status and one sentence as JSON, and the next one is answered."""
    found = agent.ask(method, url, body, **headers)

    assert found[0] == status
    assert found[1].keys() == {"error"}
    assert words in found[1]["error"]
    assert agent.ask("POST", "/v1/infer", {"text": "red"})[0] == 200


def test_pictures_come_as_they_are_or_in_json(tmp_path: Path) -> None:
    """A picture's bytes get the answer of the Python API; corrected, they are a row; what is none is refused."""
    board = make_board(tmp_path / "b", kind="image")
    data = tmp_path / "pictures"
    made = [_picture(i) for i in range(4)]
    for index, picture in enumerate(made):
        (data / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        (data / "ab"[index % 2] / f"{index}.png").write_bytes(picture)
    board.config = replace(board.config, data=data)
    with tempfile.TemporaryDirectory() as short:
        agent = Running(board, Path(short) / "a.sock")
        try:
            expected = load(board.bundle).infer([Image.open(io.BytesIO(made[0]))])[0]
            answers = agent.ask("POST", "/v1/infer", made[0], Content_Type="image/png")[1]["answers"]
            assert answers[0]["scores"] == pytest.approx(expected["scores"], abs=1e-6)
            encoded = [base64.b64encode(picture).decode() for picture in made]
            assert agent.ask("POST", "/v1/infer", {"images": encoded})[1]["answers"][0] == answers[0]

            broken = base64.b64encode(made[0][:40]).decode()
            status, found = agent.ask("POST", "/v1/feedback", {"image": broken, "label": "c"})
            assert (status, "expected a picture" in found["error"]) == (400, True)
            assert agent.ask("POST", "/v1/feedback", {"sample": digest(made[0]), "label": "c"})[1]["new"]
            assert (
                agent.ask("POST", "/v1/feedback", {"image": base64.b64encode(_picture(9)).decode(), "label": "c"})[0]
                == 200
            )
        finally:
            agent.close()
    place = agent.core.setup.place
    rows = board_data(data, board.manifest, 0.0, Path(place.corrections)).train
    found_rows = {digest(row.sample.read_bytes()): board.manifest.labels[row.label] for row in rows}
    assert found_rows == {digest(p): label for p, label in zip([*made, _picture(9)], "cbabc", strict=True)}
    assert len(rows) == 5


def _picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()
