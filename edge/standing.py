"""Whether news of the hub comes through: what its answers to hellos show, and what it means that there are none.

A freeze keeps a board at what it has, all of it signed, by withholding what is newer. TUF ends that by a timestamp that
expires (The Update Framework, specification 1.0.33, section 5.4), which needs a clock. Here the hub answers each hello
by its number, so an answer is as young as the hello, by the board's own count of seconds: a board that believes it is
1970 sees as much. The age goes on from the start before, since a board that is restarted daily would never be old
enough; the time that it was off is not known and not counted. It is a warning: what a board has it goes on serving.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from console.duration import words
from wire.messages import Standing

log = logging.getLogger("edgequilt.agent")
STALE_S = 86400.0  # without an answer, if agent.toml does not say it
ASKS, ASK_MOST_S, ASK_LEAST_S = 8, 3600.0, 60.0  # so often within that time, in these bounds
BACK_S = 600.0  # that something may be on its way behind the answer that names it
HELLOS = 64  # that an answer may be to
SILENT, KEPT_BACK = "hub-silent", "news-kept-back"


@dataclass
class News:
    """What is known of the hub's answers.

    Args:
        boot: of this start of the agent.
        stale_s: how old the last answer may be.
        began_s: the present.
        age_s: how old it was when the agent ended last.
    """

    boot: str
    stale_s: float
    began_s: float
    age_s: float = 0.0
    latest: Standing | None = None
    kept_back: str = ""  # what the hub has said and did not come
    _asked: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=HELLOS))
    _asked_s: float = -1e9
    _fresh_s: float | None = None  # when the hello went out that the latest answer is to
    _behind_s: float | None = None
    _warned: tuple[str, ...] = ()

    def said(self, number: int, now_s: float) -> None:
        """A hello went out."""
        self._asked.append((number, now_s))
        self._asked_s = now_s

    def came(self, message: Standing) -> None:
        """An answer; one that is to no hello of this start, or to an earlier one than the latest, says nothing."""
        sent_s = next((at for number, at in self._asked if number == message.number), None)
        is_older = self.latest is not None and message.number < self.latest.number
        if message.boot != self.boot or sent_s is None or is_older:
            return
        self.latest, self._fresh_s = message, sent_s

    def silent_s(self, now_s: float) -> float:
        """How old the latest answer is, in seconds that the agent ran."""
        return now_s - self._fresh_s if self._fresh_s is not None else now_s - self.began_s + self.age_s

    def compare(self, has: Mapping[str, int], digest: str, now_s: float) -> None:
        """See whether all came that the hub says there is.

        Args:
            has: the highest sequences that came, of `release`, `bundle` and `program`; one that is left out is not
                compared.
            digest: of the version that came with that release; the same one may be named anew to others.
            now_s: the present.
        """
        told = self.latest
        lacks = [] if told is None else [name for name, sequence in has.items() if getattr(told, name) > sequence]
        if told is not None and told.digest == digest and "release" in lacks:
            lacks.remove("release")
        self._behind_s = (self._behind_s if self._behind_s is not None else now_s) if lacks else None
        late = self._behind_s is not None and now_s - self._behind_s >= BACK_S
        self.kept_back = ", ".join(lacks) if late else ""

    def due(self, now_s: float) -> bool:
        """Whether to say hello for the answer's sake."""
        pause_s = max(ASK_LEAST_S, min(ASK_MOST_S, self.stale_s / ASKS))
        return now_s - self._asked_s >= (ASK_LEAST_S if self._behind_s is not None else pause_s)

    def warnings(self, now_s: float) -> tuple[str, ...]:
        """What a hello and `agent status` warn of."""
        found = {SILENT: self.silent_s(now_s) >= self.stale_s, KEPT_BACK: bool(self.kept_back)}
        return tuple(name for name, holds in found.items() if holds)

    def look(self, now_s: float) -> bool:
        """Say in the log what began or ended; whether anything did."""
        before, self._warned = self._warned, self.warnings(now_s)
        if before == self._warned:
            return False
        if self._warned:
            log.warning("%s", self.trouble(now_s))
        else:
            log.info("news of the hub comes through again")
        return True

    def trouble(self, now_s: float) -> str | None:
        """The same as a sentence."""
        if self.kept_back:
            return (
                f"the hub names a newer {self.kept_back}, which does not come: something between keeps it back; look "
                f"at the broker, and who runs the network"
            )
        if SILENT in self.warnings(now_s):
            return (
                f"no hello was answered for {words(self.silent_s(now_s))}: the hub is off or an older one, or "
                f"something between keeps its news back; this board goes on with what it has"
            )
        return None

    def record(self, now_s: float) -> dict[str, Any]:
        """For status.json."""
        return {"hub_silent_s": round(self.silent_s(now_s), 1), "news": list(self.warnings(now_s))}
