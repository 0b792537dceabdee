"""The agent beside the hub, for what a server must compute: the hub itself runs no model."""

from __future__ import annotations

import ctypes
import logging
import signal
import subprocess
import sys
from pathlib import Path

from console.errors import UsageError
from hub.children import surroundings

log = logging.getLogger("edgequilt.hub")
GOODBYE_S = 10.0
PR_SET_PDEATHSIG = 1  # prctl(2)


class ServerAgent:
    """An agent as a child process, ended with the hub.

    Raises:
        UsageError: its configuration is not there.
    """

    def __init__(self, config: Path) -> None:
        if not config.is_file():
            raise UsageError(f"expected the server agent's configuration at {config}, found none; check --server-agent")
        self._reported = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgequilt", "agent", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            env=surroundings(),
            stdout=subprocess.DEVNULL,
            preexec_fn=_die_with_hub,  # noqa: PLW1509  # one prctl call, no locks
        )

    def watch(self) -> None:
        """Say once if it has ended by itself."""
        if self._process.poll() is not None and not self._reported:
            self._reported = True
            log.warning("the server agent ended with exit code %s; evaluations wait for it", self._process.returncode)

    def close(self) -> None:
        """End it, gently first."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _die_with_hub() -> None:
    """A hub that is killed takes its agent along: the next one starts its own, and two would share one name."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
