"""The process that answers local requests (`python -m edge.local.answering`): a bundle that stays open.

It is another one than the worker, so that a request never waits for a step of training, and may be ended alone.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from console.errors import BadData, EdgequiltError
from edge.local.question import Question
from edge.request import Place, read_frame, write_frame
from edge.worker import end_with_parent, hash_without_openssl, leave_no_image, private_stdout
from wire.record import read_record

if TYPE_CHECKING:
    from edge.model import Model
    from edge.runner import Runner
    from edge.steps import Steps
    from wire.manifest import Manifest

PIECE_LIMIT_BYTES = 16 << 20


def main() -> int:
    """Answer until stdin ends; returns the exit code."""
    answers = private_stdout()
    end_with_parent()
    leave_no_image()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hash_without_openssl()
    answerer = Answerer()
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        kind, fields = _answered(answerer, frame[1], sys.stdin.buffer)
        write_frame(answers, kind, fields)
    return 0


def _answered(answerer: Answerer, fields: dict[str, Any], stream: IO[bytes]) -> tuple[str, dict[str, Any]]:
    try:
        question = read_record(Question, fields, "a question of the core")
        data = [stream.read(min(piece.size, PIECE_LIMIT_BYTES)) for piece in question.pieces]
        return "result", {"id": question.id, **answerer.answer(question, data)}
    except EdgequiltError as error:
        return "error", {"id": fields.get("id"), "reason": str(error), "known": True}
    except Exception as error:  # noqa: BLE001  # whatever a request does, the process answers and stays
        reason = f"{type(error).__name__}: {str(error)[:300]}"
        return "error", {"id": fields.get("id"), "reason": reason, "known": False}


class Answerer:
    """The bundle that is open, with the version that it answers with."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._digest = ""
        self._model: Model | None = None
        self._steps: Steps | None = None

    def answer(self, question: Question, data: Sequence[bytes]) -> dict[str, Any]:
        """Answer a question whose samples are these bytes.

        Raises:
            EdgequiltError: it cannot be.
        """
        if (question.place, question.digest) != (self._place, self._digest):
            self._close()
            self._place, self._digest = question.place, question.digest
        if question.kind == "generate":
            return self._generated(question, data[0].decode())
        return {"answers": self._labelled(question, data)}

    def _labelled(self, question: Question, data: Sequence[bytes]) -> list[dict[str, Any]]:
        from edge.model import Model

        if self._model is None:
            model = Model(_runner(question.place))
            if question.version is not None:
                model.apply(_adapter(question, model.runner.manifest))
            self._model = model
        with tempfile.TemporaryDirectory() as folder:
            kinds = [piece.kind for piece in question.pieces]
            places = [Path(folder) / str(i) for i in range(len(kinds))]
            try:
                samples = [opened(*told) for told in zip(kinds, data, places, strict=True)]
                found = self._model.infer(samples)
            except BadData as error:
                raise BadData(_as_sent(str(error), kinds, places)) from error
        return [_best(one["scores"], int(question.settings.get("top", 1))) for one in found]

    def _generated(self, question: Question, prompt: str) -> dict[str, Any]:
        from edge.encode import open_tokenizer
        from edge.generate import generate
        from edge.jobs import checked_bundle
        from edge.steps import Steps

        if self._steps is None:
            bundle = checked_bundle(question.place)
            adapter = None if question.version is None else _adapter(question, bundle.manifest)
            self._steps = Steps([bundle], question.place.threads, adapter=adapter)
        bundle = self._steps.bundles[0]
        files = [name for name in bundle.manifest.preprocess.files if name.endswith("tokenizer.json")]
        record = bundle.manifest.generate
        own = set() if record is None else {record.tokens, record.mask, record.positions}
        if not files or any(tensor.name not in own for tensor in self._steps.inputs):
            raise BadData("expected a bundle that goes on from a text alone, found another; use edgequilt run")
        tokenizer = open_tokenizer(bundle.path(files[0]))
        tokens = [int(token) for token in tokenizer.encode(prompt).ids]
        made = generate(self._steps, tokens, int(question.settings.get("max_new_tokens", 64)))
        text = str(tokenizer.decode(list(made.tokens), skip_special_tokens=True))
        return {"text": text, "tokens": list(made.tokens), "reason": made.reason}

    def _close(self) -> None:
        for opened_one in (self._model, self._steps):
            if opened_one is not None:
                opened_one.close()
        self._model = self._steps = None


def opened(kind: str, data: bytes, path: Path) -> Any:
    """A sample as the bundle's preprocessor takes it; a sound goes through a file at `path`.

    Raises:
        BadData: it is none.
    """
    if kind == "text":
        return data.decode()
    if kind == "image":
        return data
    if kind == "sound":
        file = path.with_suffix(".wav")
        file.write_bytes(data)
        return file
    file = path.with_suffix(".json")
    file.write_bytes(data)
    from edge.arrays import read_arrays

    return read_arrays(file)


def _as_sent(text: str, kinds: Sequence[str], places: Sequence[Path]) -> str:
    """A sentence about files of ours, which a client has never seen, as one about what it sent."""
    for number, (kind, place) in enumerate(zip(kinds, places, strict=True), 1):
        said = f"{kind} {number} of {len(kinds)}" if len(kinds) > 1 else f"the {kind} of the request"
        for suffix in (".wav", ".json"):
            text = text.replace(str(place.with_suffix(suffix)), said)
    return text


def _runner(place: Place) -> Runner:
    from edge.jobs import checked_bundle
    from edge.runner import Runner

    return Runner(checked_bundle(place), place.threads, providers=place.providers)


def _adapter(question: Question, manifest: Manifest) -> Any:
    from edge.assemble import read_version
    from wire.inputs import places_of

    if question.version is None:
        return None
    rank = manifest.plan.rank
    return places_of(manifest, read_version(Path(question.place.blobs), question.digest, question.version, rank))


def _best(scores: dict[str, float], top: int) -> dict[str, Any]:
    """The likeliest label with its probability, and those of the best."""
    order = sorted(scores, key=lambda name: -scores[name])
    return {"label": order[0], "score": scores[order[0]], "scores": {name: scores[name] for name in order[:top]}}


if __name__ == "__main__":
    sys.exit(main())
