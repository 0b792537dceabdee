"""The tails that an agent serves at a time: each board has a seat, a worker process beside the agent's other one.

A board that computes leaves its tail idle, so there are more seats than processors; weights are mapped, and so in
memory once. What finds no seat waits in the order in which it came.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.link import WATCH_EVERY_S, Link
from edge.split.table import SEATS

if TYPE_CHECKING:
    from edge.request import Request

log = logging.getLogger("edgequilt.agent")
Answer = Callable[[str, dict[str, Any]], None]


class Seats:
    """Begins tails as there is room.

    Args:
        make: another worker.
        begins: told of a tail that is about to begin.
        emit: gets what workers say, in any thread.
        count: tails at a time.
    """

    def __init__(
        self, make: Callable[[], Link], begins: Callable[[Request], None], emit: Answer, count: int = SEATS
    ) -> None:
        self._make, self._begins, self._emit, self.count = make, begins, emit, count
        self._waiting: deque[Request] = deque()
        self._taken = dict[str, Link]()  # by job
        self._free = list[Link]()

    @property
    def jobs(self) -> tuple[str, ...]:
        """Those that run."""
        return tuple(self._taken)

    def begin(self, request: Request) -> None:
        """Serve a board as soon as there is a seat."""
        self._waiting.append(request)
        self._fill()

    def tell(self, job: str, kind: str, fields: dict[str, Any]) -> bool:
        """Say something to the worker of a job; returns whether it has one here."""
        link = self._taken.get(job)
        if link is not None:
            link.tell(kind, fields)
        return link is not None

    def over(self, job: str) -> None:
        """Its worker has answered: the seat is free."""
        link = self._taken.pop(job, None)
        if link is not None:
            self._free.append(link)
            self._fill()

    def stop(self, job: str) -> None:
        """Nobody waits for it any more."""
        self._waiting = deque(request for request in self._waiting if request.id != job)
        link = self._taken.get(job)
        if link is not None:
            link.stop()
            self.over(job)

    def look(self) -> float | None:
        """Look after the workers; returns when to look again, in seconds."""
        waits = [link.poll() for link in (*self._taken.values(), *self._free)]
        known = [wait for wait in waits if wait is not None]
        return min(known) if known else WATCH_EVERY_S if self._taken else None

    def close(self) -> None:
        """End all workers."""
        for link in (*self._taken.values(), *self._free):
            link.close()
        self._taken.clear()
        self._waiting.clear()

    def _fill(self) -> None:
        while self._waiting and len(self._taken) < self.count:
            request = self._waiting.popleft()
            link = self._free.pop() if self._free else self._made()
            self._taken[request.id] = link
            self._begins(request)
            link.submit(request)

    def _made(self) -> Link:
        link = self._make()
        link.start(self._emit)
        return link
