"""One thread owns the hub; all others have their calls made by it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from console.errors import HubError

TICK_S = 0.5
CALLS_BETWEEN_TICKS = 100
WAITING_CALLS = 4000  # at 64 KiB a message, 256 MiB
ANSWER_TIMEOUT_S = 110.0
LOOK_S = 1.0  # whether the hub stops meanwhile


class Loop:
    """Calls from other threads, made one at a time by the thread that is in `run`; `tick_s` may be changed there."""

    def __init__(self, tick_s: float = TICK_S, waiting: int = WAITING_CALLS) -> None:
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue(waiting)
        self.tick_s = tick_s
        self._stop = threading.Event()

    def defer(self, call: Callable[[], None]) -> None:
        """Have a call made; waits while too many wait already, which slows the sender down."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._calls.put(call, timeout=1.0)
                return

    def wait_for(self, function: Callable[[], Any]) -> Any:
        """Have a function called and wait for its result or its exception.

        Raises:
            HubError: it took too long, or the loop ends meanwhile.
        """
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001  # who asked gets it
                future.set_exception(error)

        self.defer(call)
        for _ in range(int(ANSWER_TIMEOUT_S / LOOK_S)):
            if wait([future], LOOK_S).done:
                return future.result()
            if self._stop.is_set():
                raise HubError("expected an answer, the hub is stopping; ask again")
        raise HubError("expected an answer within two minutes, the hub is busy; ask again")

    def stop(self) -> None:
        """End `run` after the call that is being made; safe in a signal handler."""
        self._stop.set()

    def run(self, tick: Callable[[], None]) -> None:
        """Make calls until `stop`, and `tick` about every half second."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                self._calls.get(timeout=self.tick_s)()
                for _ in range(CALLS_BETWEEN_TICKS):
                    self._calls.get_nowait()()
            tick()
