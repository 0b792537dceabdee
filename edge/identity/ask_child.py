"""The core's side of `edge.identity.child`."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

from console.errors import TransportError, error_named
from edge.link import environment

if TYPE_CHECKING:
    import subprocess

TIMEOUT_S, LOOK_S = 120.0, 0.5


def ask_child(*arguments: str, stop: threading.Event | None = None) -> dict[str, Any]:
    """Have a child do it, and wait; `stop` ends both.

    Raises:
        EdgequiltError: what it says, with its class where that is ours.
        TransportError: it did not answer.
    """
    import subprocess  # only when something is due

    command = [sys.executable, "-m", "edge.identity.child", *arguments]
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment(1)) as child:
            found = json.loads(_said(child, stop or threading.Event()))
    except (OSError, ValueError) as error:
        raise TransportError(f"expected an answer of our own child, found none ({type(error).__name__})") from error
    if "error" in found:
        raise error_named(found["error"]["class"], found["error"]["sentence"])
    return dict(found["ok"])


def _said(child: subprocess.Popen[bytes], stop: threading.Event) -> bytes:
    """What it prints until it ends; TimeoutError if that takes too long."""
    import subprocess

    for _ in range(int(TIMEOUT_S / LOOK_S)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=LOOK_S)[0]
        if stop.is_set():
            break
    child.kill()
    raise TimeoutError
