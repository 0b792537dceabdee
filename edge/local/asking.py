"""The thread that has local requests answered, one after the other, while the worker is paused (ADR 10).

It owns the process that answers: the kernel ends that one with the thread that started it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edge.link import WorkerLink
from edge.local.question import Piece, Question
from edge.local.refused import Refused
from edge.memory import available_bytes

if TYPE_CHECKING:
    from edge.core import Core
    from edge.local.sample import Sample

log = logging.getLogger("edgequilt.agent")
ASKED = "a request"  # why the worker is paused
QUEUE = 16  # requests that may wait for their turn
RESERVE = 0.15  # of the memory that is available: the same as a budget leaves
ROOM_S = 10.0  # a worker that is ended gives its memory back within
LOOK_S = 0.2  # at the process, while it computes
IDLE_S = 3600.0


@dataclass
class _Turn:
    """A request on its way."""

    kind: Literal["infer", "generate"]
    samples: Sequence[Sample]
    settings: dict[str, Any]
    ends_at: float
    answer: queue.SimpleQueue[dict[str, Any] | Refused] = field(default_factory=queue.SimpleQueue)


class Asking:
    """Requests in, answers out; `ask` from any thread.

    Args:
        core: the agent.
        command: of the process that answers; None: the real one.
    """

    def __init__(self, core: Core, command: Sequence[str] | None = None) -> None:
        config = core.setup.config
        self._core, self._deadline_s = core, config.local.deadline_s
        self._turns: queue.Queue[_Turn | None] = queue.Queue(QUEUE)
        self._answers: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self.link = WorkerLink(
            core.setup.budget_bytes,
            config.local.idle_s,
            config.threads,
            command or (sys.executable, "-m", "edge.local.answering"),
        )
        self.link.start(lambda kind, fields: self._answers.put((kind, fields)))
        self._numbers, self._closing, self._leave = itertools.count(), False, threading.Event()
        self.answered = 0
        self._thread = threading.Thread(target=self._run, name="local-requests", daemon=True)

    def start(self) -> None:
        """Take requests."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more; the process ends."""
        self._closing = True
        self._look()
        if self._thread.is_alive():
            self._thread.join(2 * ROOM_S)

    def ask(self, kind: Literal["infer", "generate"], samples: Sequence[Sample], **settings: Any) -> dict[str, Any]:
        """An answer.

        Raises:
            Refused: too many wait, it took too long, or the bundle cannot answer.
        """
        self._core.barrier.asked_at = self._core.now()
        turn = _Turn(kind, samples, settings, time.monotonic() + self._deadline_s)
        self._core.link.hold(ASKED)
        try:
            self._turns.put_nowait(turn)
            found = turn.answer.get(timeout=2 * self._deadline_s)
        except queue.Full as error:
            raise Refused(503, f"expected fewer than {QUEUE} requests to wait, found as many; ask again") from error
        except queue.Empty as error:
            raise Refused(504, "expected an answer in time, found none; ask again") from error
        if isinstance(found, Refused):
            raise found
        return found

    def make_room(self) -> bool:
        """Whether a worker may begin: where memory does not do for both, the process that answers ends for it."""
        about = self._core.setup.about
        if about is None or self.link.pid is None or _fits(about.train_bytes):
            return True
        self._leave.set()
        self._look()
        return False

    def _look(self) -> None:
        """Have the thread look around; where requests wait, it does so after the next one anyway."""
        with contextlib.suppress(queue.Full):
            self._turns.put_nowait(None)

    def _run(self) -> None:
        while not self._closing:
            wait_s = self.link.poll()
            try:
                turn = self._turns.get(timeout=IDLE_S if wait_s is None else wait_s)
            except queue.Empty:
                continue
            if turn is not None:
                turn.answer.put(self._answered(turn))
                self.answered += 1
            if self._turns.empty():
                self._core.link.release(ASKED)
                self._rest()
        self._refuse_all()
        self._core.link.release(ASKED)
        self.link.close()

    def _rest(self) -> None:
        """Nobody asks."""
        if self._leave.is_set() and not self._closing:
            self._leave.clear()
            log.info("the process that answers local requests ends: training needs its memory")
            self.link.close()

    def _refuse_all(self) -> None:
        while not self._turns.empty():
            turn = self._turns.get()
            if turn is not None:
                turn.answer.put(Refused(503, "expected an agent that runs, found one that ends; ask again"))

    def _answered(self, turn: _Turn) -> dict[str, Any] | Refused:
        if time.monotonic() > turn.ends_at:
            return Refused(503, "expected a free moment, found too many requests before this one; ask again")
        self._core.link.hold(ASKED)
        self._take_room()
        try:
            question = self._question(turn)
            self.link.submit(question, [sample.data for sample in turn.samples])
            return self._heard(question.id, turn)
        except Refused as refused:
            return refused
        except Exception:  # a thread that dies would leave every later request without an answer
            log.exception("a local request was not answered")
            return Refused(500, "something went wrong; the agent's log says more")

    def _heard(self, name: str, turn: _Turn) -> dict[str, Any] | Refused:
        while (left_s := turn.ends_at - time.monotonic()) > 0:
            if self._closing:
                return Refused(503, "expected an agent that runs, found one that ends; ask again")
            try:
                kind, fields = self._answers.get(timeout=min(LOOK_S, left_s))
            except queue.Empty:
                self.link.poll()
                continue
            if fields.get("id") != name:
                continue
            if kind == "result":
                return {key: value for key, value in fields.items() if key != "id"}
            status = 400 if fields.get("known") else 500
            return Refused(status, str(fields.get("reason")))
        self.link.stop()
        return Refused(504, f"expected an answer within {self._deadline_s:g} s, found none; the process was ended")

    def _question(self, turn: _Turn) -> Question:
        core = self._core
        setup = core.setup
        if not setup.place.bundle:
            raise Refused(503, "expected a bundle, found that the hub has named none yet; ask again later")
        served = core.store.served_of(setup.model)
        version = None if served is None else core.store.version(served.digest)
        pieces = tuple(Piece(sample.kind, len(sample.data)) for sample in turn.samples)
        digest = served.digest if served is not None and version is not None else ""
        return Question(f"q{next(self._numbers)}", turn.kind, setup.place, digest, version, pieces, turn.settings)

    def _take_room(self) -> None:
        """Before a process starts: where memory does not do for both, the worker's job waits for another time."""
        about, core = self._core.setup.about, self._core
        if about is None or self.link.pid is not None or core.barrier.running is None or _fits(about.serve_bytes):
            return
        done = threading.Event()

        def put_back() -> None:
            if core.barrier.put_back():
                log.info("a job makes room for a local request, and begins again later")
            done.set()

        core.call(put_back)
        done.wait(ROOM_S)


def _fits(need_bytes: int, available: Callable[[], int | None] = available_bytes) -> bool:
    """Whether another process of that size has room beside all that runs."""
    found = available()
    return found is None or need_bytes <= found * (1 - RESERVE)
