"""`python -m edge.identity.child WHAT ARGUMENT...`: claims and renewals, for a core that must stay small.

What they need of cryptography and HTTP would stay in the core's memory for ever. It answers with a line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.errors import EdgequiltError
from edge.identity.claim import claim
from edge.identity.configuration import Wishes
from edge.identity.renew import hub_time, renew
from wire.files import read_bytes
from wire.record import plain
from wire.token import TOKEN_LIMIT, parse_token


def _claim(token_file: str, folder: str) -> Any:
    token = parse_token(read_bytes(Path(token_file), "a claim token", TOKEN_LIMIT).decode(errors="replace"))
    return plain(claim(token, Path(folder), Wishes()).identity)


def _renew(folder: str) -> Any:
    return plain(renew(Path(folder)))


def _time(folder: str) -> Any:
    return {"at_s": hub_time(Path(folder))}


DEEDS: dict[str, Callable[..., Any]] = {"claim": _claim, "renew": _renew, "time": _time}


def main(arguments: list[str]) -> int:
    """Do one thing; returns the exit code of its error, or 0."""
    try:
        print(json.dumps({"ok": DEEDS[arguments[0]](*arguments[1:])}))
    except EdgequiltError as error:
        print(json.dumps({"error": {"class": type(error).__name__, "sentence": str(error)}}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
