"""Local programs that ask for text: an agent with a bundle whose next token is a sum, and its tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from edge.assemble import read_version
from tests.edge import steppers
from tests.edge.boards import make_board
from tests.edge.bundles import MODEL
from tests.edge.local.test_api import Running
from tests.edge.steppers import CONTEXT, RANK, VOCABULARY
from tests.edge.test_generate import sums
from tests.edge.test_renewing import sign
from wire.bundle import MANIFEST
from wire.files import digest
from wire.keys import PrivateKey
from wire.kinds.lora import Lora
from wire.manifest import File, Preprocess, parse_manifest, to_bytes

SETTINGS = {"max_length": CONTEXT, "pad_id": 0, "pad_token": "0"}


def talking(folder: Path, key: PrivateKey) -> None:
    """Have a stepper take texts: its words are numbers, and each is its own token."""
    words = Tokenizer(WordLevel({str(i): i for i in range(VOCABULARY)}, unk_token="0"))
    words.pre_tokenizer = Whitespace()
    words.save(str(folder / "tokenizer.json"))
    data, manifest = (folder / "tokenizer.json").read_bytes(), parse_manifest((folder / MANIFEST).read_bytes())
    files = (*manifest.files, File("tokenizer.json", len(data), digest(data)))
    model = replace(manifest.model, id=MODEL)
    takes = Preprocess("text", ("tokenizer.json",), SETTINGS)
    sign(folder, key, to_bytes(replace(manifest, model=model, files=files, preprocess=takes)))


def running(folder: Path, socket: Path, make: Any, **rules: Any) -> Running:
    """An agent with such a bundle, which takes part in no round."""
    board = make_board(folder / "board")
    make(folder / "sums", **rules)
    talking(folder / "sums", board.publisher)
    board.config = replace(board.config, bundle=folder / "sums", take_part=False)
    return Running(board, socket)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """It goes on with sums, and 6 is an end."""
    with tempfile.TemporaryDirectory() as short:
        made = running(tmp_path_factory.mktemp("talks"), Path(short) / "a.sock", steppers.cached, end=[6])
        yield made
        made.close()


ANSWERS: dict[str, tuple[Any, dict[str, str], list[int], int, str]] = {
    "so many tokens": ({"prompt": "3 4", "max_new_tokens": 2}, {}, [3, 4], 2, "length"),
    "an end": ({"prompt": "5 5"}, {}, [5, 5], 5, "end"),
    "the context": (b"0 1", {"Content_Type": "text/plain; charset=utf-8"}, [0, 1], CONTEXT - 1, "context"),
}


@pytest.mark.parametrize(("body", "headers", "prompt", "count", "reason"), ANSWERS.values(), ids=ANSWERS)
def test_a_text_is_gone_on_from(
    agent: Running, body: Any, headers: dict[str, str], prompt: list[int], count: int, reason: str
) -> None:
    """Tokens are the sums on paper, the text is theirs; asked again it is the same: nothing of a prompt is left."""
    expected = sums(prompt, count)
    answer = {"version": None, "text": " ".join(map(str, expected)), "tokens": expected, "reason": reason}

    assert agent.ask("POST", "/v1/generate", body, **headers) == (200, answer)
    assert agent.ask("POST", "/v1/generate", body, **headers) == (200, answer)


LONG = " ".join("1" * (CONTEXT + 1))
REFUSED: dict[str, tuple[str, Any, dict[str, str], int, str]] = {
    "too long": ("generate", {"prompt": LONG}, {}, 400, "at most 8 tokens, found 9"),
    "nothing to go on from": ("generate", {"prompt": " "}, {}, 400, "at least one token, found none"),
    "no prompt": ("generate", {"max_new_tokens": 3}, {}, 400, "prompt: missing"),
    "a list": ("generate", {"prompt": [1, 2]}, {}, 400, "prompt: expected str"),
    "no tokens": ("generate", {"prompt": "1", "max_new_tokens": 0}, {}, 400, "max_new_tokens: expected at least 1"),
    "too many": ("generate", {"prompt": "1", "max_new_tokens": 4097}, {}, 400, "expected at most 4096, found 4097"),
    "a picture": ("generate", b"x", {"Content_Type": "image/png"}, 415, "application/json or text/plain"),
    "no UTF-8": ("generate", b"1\xff", {"Content_Type": "text/plain"}, 400, "found byte 0xff at place 2"),
    "labels": ("infer", {"text": "1"}, {}, 409, "expected a bundle that labels"),
    "a label": ("feedback", {"text": "1", "label": "a"}, {}, 409, "expected a bundle that learns from labels"),
}


@pytest.mark.parametrize(("path", "body", "headers", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_gone_on_from_is_said(
    agent: Running, path: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    """A request that is wrong gets its status and one sentence, and the next one is answered."""
    found = agent.ask("POST", f"/v1/{path}", body, **headers)

    assert found[0] == status
    assert found[1].keys() == {"error"}
    assert words in found[1]["error"]
    assert agent.ask("POST", "/v1/generate", {"prompt": "2", "max_new_tokens": 1})[1]["tokens"] == [2]


def test_it_goes_on_as_the_version_that_is_served(tmp_path: Path) -> None:
    """With a version's factors in its slot the tokens are those on paper, and the answer names the version."""
    asked = {"prompt": "3 4", "max_new_tokens": 5}
    with tempfile.TemporaryDirectory() as short:
        made = running(tmp_path, Path(short) / "a.sock", steppers.cached, slot=True)
        try:
            before = made.ask("POST", "/v1/generate", asked)[1]
            manifest = parse_manifest((tmp_path / "sums" / MANIFEST).read_bytes())
            version = made.farm.hub.publish_version(manifest, 1, RANK)
            made.farm.hub.release(version, 1, 1)
            assert made.until(lambda: made.core.store.released.served is not None)
            after = made.ask("POST", "/v1/generate", asked)[1]
        finally:
            made.close()
    kept = made.core.store.version(version)
    assert kept is not None
    adapter = read_version(made.core.store.blobs, version, kept, RANK)
    expected = beside(adapter.lora["sum"], [3, 4], 5)
    assert (before["version"], before["tokens"]) == (None, sums([3, 4], 5))
    assert (after["version"], after["tokens"]) == ({"version": 1, "digest": version}, expected)
    assert expected != sums([3, 4], 5)


def beside(lora: Lora, tokens: list[int], count: int) -> list[int]:
    """What follows where the slot adds to the sums."""
    known = list(tokens)
    for _ in range(count):
        x = np.array([0] * (CONTEXT - len(known)) + known, np.float64)
        known.append(int(sum(known) + lora.scale * float(x @ lora.a @ lora.b[:, 0])) % VOCABULARY)
    return known[len(tokens) :]


def test_a_model_that_reads_more_than_a_text(tmp_path: Path) -> None:
    """Its other inputs cannot be asked for here: that is said, and where they can be."""
    with tempfile.TemporaryDirectory() as short:
        made = running(tmp_path, Path(short) / "a.sock", steppers.prefix)
        try:
            status, found = made.ask("POST", "/v1/generate", {"prompt": "1"})
        finally:
            made.close()
    assert (status, "from a text alone, found another; use edgequilt run" in found["error"]) == (400, True)
