"""Asking a running agent on the same board, for the command line."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from pathlib import Path
from typing import Any

from console.errors import BadData, HubError, TransportError
from wire.files import read_bytes
from wire.json_text import parse_json

PATIENCE_S = 120.0
FILE_LIMIT_BYTES = 8 << 20
FIELDS = {"text": "text", "image": "image", "tensors": "sound"}


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = str(path)

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


class LocalAgent:
    """The agent behind a socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_there(self) -> bool:
        """Whether somebody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(2)
            try:
                made.connect(str(self.path))
            except OSError:
                return False
        return True

    def ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request.

        Raises:
            TransportError: nobody listens, or may be asked by this user.
            BadData: the agent says that what was sent is wrong.
            HubError: the agent cannot answer now.
        """
        connection = _Unix(self.path)
        try:
            connection.request(method, url, None if body is None else json.dumps(body).encode())
            answer = connection.getresponse()
            status, found = answer.status, parse_json(answer.read(), finite=False)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise TransportError(
                f"expected an agent at {self.path}, but the system said: {reason}; does it run, may this user ask?"
            ) from error
        finally:
            connection.close()
        if not isinstance(found, dict):
            raise TransportError(f"expected an agent at {self.path}, found a program that answers something else")
        if status != 200:
            sentence = str(found.get("error", f"it answered {status}"))
            raise (BadData if 400 <= status < 500 else HubError)(sentence)
        return found

    def infer(self, samples: list[str]) -> list[dict[str, Any]]:
        """Answers for texts, or for files of pictures or sounds.

        Raises:
            StorageError: a file cannot be read.
        """
        column = FIELDS[str(self.ask("GET", "/v1/health")["takes"])]
        found: list[dict[str, Any]] = []
        for sample in samples:  # one by one: pictures together may be more than a request may hold
            found += self.ask("POST", "/v1/infer", {column: content(sample, column), "top": 1000})["answers"]
        return found

    def feedback(self, sample: str, label: str) -> dict[str, Any]:
        """Correct a label: of a sample's id, a text, or a file.

        Raises:
            StorageError: the file cannot be read.
        """
        if len(sample) == 64 and all(digit in "0123456789abcdef" for digit in sample):
            return self.ask("POST", "/v1/feedback", {"sample": sample, "label": label})
        column = FIELDS[str(self.ask("GET", "/v1/health")["takes"])]
        return self.ask("POST", "/v1/feedback", {column: content(sample, column), "label": label})


def content(sample: str, column: str) -> str:
    """What JSON holds of a sample: a text, or a file's bytes in base64."""
    if column == "text":
        return sample
    return base64.b64encode(read_bytes(Path(sample), f"{column} to send", FILE_LIMIT_BYTES)).decode()
