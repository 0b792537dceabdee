"""The core's side of `edge.identity.child`."""

from __future__ import annotations

import json
import sys
from typing import Any

from console import errors
from console.errors import EdgequiltError, HubError, TransportError
from edge.link import environment

TIMEOUT_S = 120.0


def ask_child(*arguments: str) -> dict[str, Any]:
    """Have a child do it, and wait.

    Raises:
        EdgequiltError: what it says, with its class where that is ours.
        TransportError: it did not answer.
    """
    import subprocess  # only when something is due

    command = [sys.executable, "-m", "edge.identity.child", *arguments]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            env=environment(1),
            timeout=TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise TransportError(f"expected an answer of our own child, found none ({type(error).__name__})") from error
    if "error" in found:
        told = found["error"]
        kind = getattr(errors, str(told.get("class")), HubError)
        known = isinstance(kind, type) and issubclass(kind, EdgequiltError)
        raise (kind if known else HubError)(str(told.get("sentence", "")))
    return dict(found["ok"])
