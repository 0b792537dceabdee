"""What people ask of a fix, as the settings of its round, and what of that is kept when it is over.

An input is somebody's text or picture. It is kept as long as the job may have to be said again; after that its SHA-256
stands for it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

from console.errors import HubError, UsageError
from hub.fixes.gate import Bars
from hub.making.model import Model
from hub.rounds.state import Round
from wire.files import digest
from wire.messages import Job, decode, encode
from wire.record import at_least, read_record

INPUT_BYTES, ALL_BYTES, MOST_PARAPHRASES = 256 << 10, 512 << 10, 64
PRIVATE = ("input", "paraphrases")  # of the settings
Row = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """An input: a text, or a file in base64."""

    text: str | None = None
    data: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        expect: the label that the input should have.
        input: what is answered wrong.
        paraphrases: others that should have the same label.
        drawdown: the share of calibration rows that were right and may be wrong afterwards.
        rank: of the edit, at most.
        by: who asks.
        dry_run: nothing is made of it.
        release: the version goes to all at once; else it is made and waits for `hub deploy`.
    """

    expect: str
    input: Given
    paraphrases: tuple[Given, ...] = ()
    drawdown: float = field(default=0.001, metadata=at_least(0, 1))
    rank: int = field(default=2, metadata=at_least(1, 16))
    by: str = ""
    dry_run: bool = False
    release: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def settings_of(request: Row, model: Model, takes: str) -> Row:
    """The settings of a fix, but for the ranks that boards serve at.

    Args:
        request: the fields of `Wanted`; what is None is as usual.
        model: whose answer it is.
        takes: `text`, `image` or another kind of preprocessing.

    Raises:
        HubError: the model has no labels to choose from.
        BadData: a field is absent, or not what it should be.
        UsageError: it has not this label, or does not take that input.
    """
    if not model.features or not model.labels:
        raise HubError(
            f"expected a model whose head tells labels apart, found that {model.id} has none, as decoders have none; "
            f"what it answers cannot be fixed this way: train it on the right answer"
        )
    if takes not in ("text", "image"):
        raise HubError(f"expected a model of texts or pictures, found that {model.id} takes {takes}; train it instead")
    told = read_record(Wanted, {k: v for k, v in request.items() if v is not None}, "what a fix should do")
    if told.expect not in model.labels:
        raise UsageError(f"expected a label of {model.id} ({', '.join(model.labels)}), found {told.expect[:63]!r}")
    given = [_content(one, takes) for one in (told.input, *told.paraphrases)]
    if len(given) > 1 + MOST_PARAPHRASES or sum(map(len, given)) > ALL_BYTES:
        raise UsageError(
            f"expected at most {MOST_PARAPHRASES} paraphrases and {ALL_BYTES >> 10} KiB in all, found {len(given) - 1} "
            f"and {sum(map(len, given)) >> 10} KiB; leave some out"
        )
    shaped = [_shaped(one, takes) for one in given]
    return {
        "expect": told.expect,
        "input": shaped[0],
        "paraphrases": shaped[1:],
        "drawdown": told.drawdown,
        "rank": told.rank,
        "sha256": [digest(one) for one in given],
        "by": told.by[:64],
        "dry_run": told.dry_run,
        "release": told.release,
    }


def bars_of(settings: Row) -> Bars:
    """What the gate asks, before and after a fix was forgotten."""
    return Bars(settings["expect"], len(settings["sha256"]) - 1, settings["drawdown"])


def forgotten(state: Round) -> Round:
    """A fix that is over without what was put into the model."""
    return replace(state, settings={k: v for k, v in state.settings.items() if k not in PRIVATE})


def forgotten_job(body: bytes) -> bytes:
    """The same of its job."""
    job = decode(body, Job)
    return encode(replace(job, settings={k: v for k, v in job.settings.items() if k not in PRIVATE}))


def _content(given: Given, takes: str) -> bytes:
    """The bytes of an input: of a text in UTF-8, or of a file.

    Raises:
        UsageError: it is neither, or not what the model takes.
    """
    if (given.text is None) == (given.data is None):
        raise UsageError("expected a text or a file as an input, found both or neither; give one of them")
    if takes == "image" and given.data is None:
        raise UsageError("expected the file of a picture as an input of this model, found a text; name a file")
    try:
        found = str(given.text).encode() if given.data is None else base64.b64decode(given.data, validate=True)
        text = found.decode() if takes == "text" else "a picture"
    except ValueError as error:  # of base64, of UTF-8
        raise UsageError(f"expected a text or a file as an input, found something else ({error})") from error
    if not 0 < len(found) <= INPUT_BYTES or not text.strip():
        raise UsageError(f"expected an input of 1 to {INPUT_BYTES >> 10} KiB, found {len(found)} bytes")
    return found


def _shaped(content: bytes, takes: str) -> Row:
    """An input as an agent takes it."""
    return {"text": content.decode()} if takes == "text" else {"data": base64.b64encode(content).decode()}
