"""What the core asks of the process that answers local requests; samples follow a frame as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from edge.request import Place
from wire.messages import Version

Kind = Literal["text", "image", "sound", "arrays"]


@dataclass(frozen=True)
class Piece:
    """A sample behind the frame: what it is, and how many bytes."""

    kind: Kind
    size: int


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        id: of the question.
        kind: label samples, or go on from a prompt.
        place: where the bundle is.
        digest: of the version that is served; empty: none, the model answers as it was exported.
        version: the version.
        pieces: samples, in their order.
        settings: `top`, or `max_new_tokens`.
    """

    id: str
    kind: Literal["infer", "generate"]
    place: Place
    digest: str
    version: Version | None
    pieces: tuple[Piece, ...]
    settings: dict[str, Any] = field(default_factory=dict)
