"""What a route is, what it is asked and what it answers: plain data, without a web framework and without I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.serving.service import Service
from wire.json_text import parse_json

BODY_LIMIT_BYTES = 64 << 10
JSON = "application/json"
NOTHING: Mapping[str, str] = {}
Within = Callable[[Callable[[Service], Any]], Any]  # has a function called by the thread that owns the service


class Refusal(Exception):
    """A request that is refused, with the status and the sentence that the client gets."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] = NOTHING) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers


@dataclass(frozen=True)
class Asked:
    """A request. `device` is the common name of the client's certificate, empty without one."""

    found: Mapping[str, str]  # what stood for the {names} of the route's path
    query: Mapping[str, str]
    body: bytes = field(repr=False)
    address: str
    device: str

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            Refusal: it is none.
        """
        try:
            return parse_json(self.body)
        except ValueError as error:
            raise Refusal(400, "expected JSON, found something else; send what docs/identity.md describes") from error


@dataclass(frozen=True)
class Answer:
    """What is sent: bytes, or a file, of which clients may ask ranges (RFC 9110, section 14)."""

    body: bytes = b""
    status: int = 200
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    etag: str = ""  # of the file, with its quotes: other bytes have another one


Handler = Callable[[Within, Asked], Answer]


@dataclass(frozen=True)
class Route:
    """One line of the table.

    Attributes:
        method: GET or POST.
        path: with {names} for segments that vary.
        identity: whether the client must show a certificate of an enrolled device that is not revoked.
        handler: called on a thread of its own kind, never by the loop of the server.
        limited: whether it counts against the rate of an address.
        deadline_s: from the request's head to the end of its answer, or to each next block of a file; then the
            connection is dropped.
        body_bytes: the largest body.
    """

    method: str
    path: str
    identity: bool
    handler: Handler
    limited: bool = False
    deadline_s: float = 30.0
    body_bytes: int = BODY_LIMIT_BYTES


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer as JSON."""
    return Answer(json.dumps(value).encode(), status)


def find(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route of a request, and what stood for its {names}.

    >>> route = Route("GET", "/1/blobs/{digest}", True, lambda within, asked: Answer())
    >>> find([route], "GET", "/1/blobs/00ff")[1]
    {'digest': '00ff'}

    Raises:
        Refusal: there is none.
    """
    allowed = []
    for route in routes:
        found = _match(route.path, path)
        if found is None:
            continue
        if route.method == method:
            return route, found
        allowed.append(route.method)
    if allowed:
        wanted = ", ".join(allowed)
        raise Refusal(405, f"expected {wanted} for this path, found another method", {"Allow": wanted})
    raise Refusal(404, "expected a path that this hub serves, found another; use the same edgequilt as the hub")


def _match(pattern: str, path: str) -> dict[str, str] | None:
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    found = {}
    for part, value in zip(wanted, given, strict=True):
        if part.startswith("{") and value:
            found[part[1:-1]] = value
        elif part != value:
            return None
    return found
