"""Bodies of local requests, read by one door: JSON, or one sample as it is (docs/local-api.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from console.errors import BadData
from edge.local.question import Kind
from edge.local.refused import Refused
from edge.local.sample import Sample
from wire.json_text import parse_json
from wire.record import DIGEST, at_least, matching, read_record

SAMPLES = 32  # in one request
TOP = 10  # labels in an answer, where nobody says another number
COLUMNS: dict[str, tuple[Kind, ...]] = {"text": ("text",), "image": ("image",), "tensors": ("sound", "arrays")}
Body = TypeVar("Body")


@dataclass(frozen=True)
class Infer:
    """What `/v1/infer` is asked."""

    samples: tuple[Sample, ...]
    top: int = TOP


@dataclass(frozen=True)
class Feedback:
    """What `/v1/feedback` is told: a label, for a sample or for the name of one that was asked about."""

    label: str
    sample: Sample | None
    name: str = ""


@dataclass(frozen=True)
class Generate:
    """What `/v1/generate` is asked."""

    prompt: str
    max_new_tokens: int = field(default=64, metadata=at_least(1, 4096))


@dataclass(frozen=True)
class _Samples:
    text: str | None = None
    texts: tuple[str, ...] = ()
    image: str | None = None  # base64
    images: tuple[str, ...] = ()
    sound: str | None = None  # base64 of a WAV file
    sounds: tuple[str, ...] = ()
    arrays: dict[str, Any] | None = None  # nested lists by input name
    top: int = field(default=TOP, metadata=at_least(1, 1000))


@dataclass(frozen=True)
class _Labelled:
    label: str
    sample: str | None = field(default=None, metadata=matching(DIGEST))
    text: str | None = None
    image: str | None = None
    sound: str | None = None
    arrays: dict[str, Any] | None = None


def read_infer(body: bytes, content_type: str, takes: str) -> Infer:
    """Samples to label.

    Args:
        body: of the request.
        content_type: its header; empty counts as JSON.
        takes: the kind of sample that the bundle takes.

    Raises:
        Refused: 400 with what is wrong, or 415.
    """
    if not _is_json(content_type):
        return Infer((_plain_sample(body, content_type, takes),))
    given = _record(_Samples, body)
    samples = _samples(given, takes, body)
    if not 0 < len(samples) <= SAMPLES:
        names = " or ".join(COLUMNS[takes])
        raise Refused(400, f"expected {names} with one to {SAMPLES} samples, found {len(samples)}")
    return Infer(tuple(samples), given.top)


def read_feedback(body: bytes, content_type: str, takes: str) -> Feedback:
    """A corrected label.

    Raises:
        Refused: 400 with what is wrong, or 415.
    """
    if not _is_json(content_type):
        raise Refused(415, f"expected application/json, found {content_type[:60]!r}")
    given = _record(_Labelled, body)
    pieces = {name: getattr(given, name) for name in ("text", "image", "sound", "arrays")}
    found = _Samples(**pieces)
    samples = _samples(found, takes, body)
    if len(samples) + (given.sample is not None) != 1:
        names = " or ".join(COLUMNS[takes])
        raise Refused(400, f"expected either sample (the id of an answer) or {names}, found both or neither")
    return Feedback(given.label, samples[0] if samples else None, given.sample or "")


def read_generate(body: bytes, content_type: str) -> Generate:
    """A prompt.

    Raises:
        Refused: 400 with what is wrong, or 415.
    """
    if content_type.startswith("text/plain"):
        return Generate(_text(body))
    if not _is_json(content_type):
        raise Refused(415, f"expected application/json or text/plain, found {content_type[:60]!r}")
    return _record(Generate, body)


def _is_json(content_type: str) -> bool:
    return not content_type or content_type.partition(";")[0].strip().lower() == "application/json"


def _record(kind: type[Body], body: bytes) -> Body:
    try:
        return read_record(kind, parse_json(body), "the request")
    except ValueError as error:
        raise Refused(400, f"expected JSON, found something else ({error})") from error
    except BadData as error:
        raise Refused(400, str(error)) from error


def _plain_sample(body: bytes, content_type: str, takes: str) -> Sample:
    """A body that is itself the sample."""
    kind = content_type.partition(";")[0].strip().lower()
    if takes == "text" and kind == "text/plain":
        return _checked(Sample("text", _text(body).encode()))
    if takes == "image" and (kind.startswith("image/") or kind == "application/octet-stream"):
        return _checked(Sample("image", body))
    if takes == "tensors" and kind.startswith("audio/"):
        return _checked(Sample("sound", body))
    names = {"text": "text/plain", "image": "image/png or the like", "tensors": "audio/wav"}[takes]
    raise Refused(415, f"expected application/json or {names} for this bundle, found {content_type[:60]!r}")


def _samples(given: _Samples, takes: str, body: bytes) -> list[Sample]:
    """Samples in the order of the request, those of a kind that the bundle does not take refused."""
    makers: dict[str, Callable[[str], Sample]] = {
        "text": lambda text: Sample("text", text.encode()),
        "image": lambda text: Sample("image", _decoded(text)),
        "sound": lambda text: Sample("sound", _decoded(text)),
    }
    found = []
    for kind, make in makers.items():
        one, many = getattr(given, kind), getattr(given, f"{kind}s")
        found += [make(text) for text in ([] if one is None else [one]) + list(many)[: SAMPLES + 1]]
    if given.arrays is not None:
        found.append(Sample("arrays", _arrays(given.arrays)))
    wrong = next((sample.kind for sample in found if sample.kind not in COLUMNS[takes]), None)
    if wrong is not None:
        raise Refused(400, f"expected {' or '.join(COLUMNS[takes])} for this bundle, found {wrong}")
    return [_checked(sample) for sample in found]


def _checked(sample: Sample) -> Sample:
    if not sample.data.strip():
        raise Refused(400, f"expected {sample.kind} with something in it, found nothing")
    if sample.kind in ("image", "sound") and not sample.suffix:
        raise Refused(400, f"expected the bytes of a {sample.kind} file, found others")
    return sample


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, f"expected base64, found something else ({error})") from error


def _arrays(found: dict[str, Any]) -> bytes:
    import json

    return json.dumps(found, sort_keys=True).encode()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Refused(
            400, f"expected UTF-8, found byte 0x{body[error.start]:02x} at place {error.start + 1}"
        ) from error
