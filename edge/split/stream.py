"""What two cores say to each other of one split job, without I/O: in order, once, and never more than the other takes.

Whatever carries it may lose, repeat, reorder, and deliver what an earlier start of a side has said. So a side believes
in another one as soon as that names the stream that was drawn here, and not before. It keeps each part until the other
has it, and says the oldest again after four times what answers took; it says nothing beyond the other's credit. The
worker takes no part in this: it gives parts and takes parts.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wire.messages import PART_LIMIT_BYTES, Crossing, Peer

WINDOW = 8  # parts that a side takes ahead of its worker
FEW, LONG_S = 2, 5.0  # parts on the way where answers take longer, or nobody knows yet: a slow link is not filled
OPEN_FIRST_S, OPEN_LAST_S = 1.0, 15.0
AGAIN_UNKNOWN_S, AGAIN_FIRST_S, AGAIN_LAST_S = 15.0, 2.0, 120.0
AGAIN_TIMES = 4.0  # of what answers took
PING_S, PINGS_S, GONE_S = 30.0, 10.0, 150.0  # of silence before the first question, between others, to the end
ANEW = "the other half began anew"
ENDED = "the other half has ended"  # well: who fails says why

Said = tuple[type, dict[str, Any]]  # a message type, and its fields but the sender and the job
Part = dict[str, Any]  # what, step, micro, part, parts, fields, data


def new_stream() -> str:
    """16 hexadecimal digits that nobody guesses."""
    return secrets.token_hex(8)


@dataclass
class _Sent:
    part: Part
    first_s: float
    at_s: float


@dataclass
class Stream:
    """One side. `out` is what is to be said now, `parts` what the worker is to be given; both are taken by the caller.

    Attributes:
        own: the name of this side's stream.
        peer: the other's; empty until it was heard.
        gone: why there is no other side any more; empty: there is one, or none was heard yet.
        stale: messages that belonged to another stream.
        repeated: parts that were said again.
    """

    now_s: float
    own: str = field(default_factory=new_stream)
    window: int = WINDOW
    peer: str = ""
    gone: str = ""
    ended: bool = False
    stale: int = 0
    repeated: int = 0
    out: list[Said] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: list[Part] = []  # said by the worker, beyond the credit
        self._sent = OrderedDict[int, _Sent]()  # and not answered yet
        self._number, self._until = 0, 0  # of the next part to say; up to where the other side takes
        self._early = dict[int, Part]()  # came before one that lacks
        self._next, self._taken = 0, 0  # expected; taken by the worker
        self._told = self.window  # the credit that the other side knows of
        self._open_s, self._open_at_s = OPEN_FIRST_S, self.now_s
        self._answer_s, self._again = 0.0, 1.0  # what answers took, smoothed; how much longer to wait
        self._heard_s, self._ask_s = self.now_s, self.now_s + PING_S
        self._last = self._why = ""  # the other side's stream, also when it is gone; why we have ended
        self._say_open("")

    @property
    def answered(self) -> int:
        """Parts of our worker that the other side has."""
        return self._number - len(self._sent)

    @property
    def settled(self) -> bool:
        """Whether the other side has all that was said."""
        return not self._sent and not self._queue

    def say(self, part: Part, now_s: float) -> None:
        """Our worker says something."""
        if self.gone:
            return
        self._queue.append(part)
        self._go_on(now_s)

    def took(self, now_s: float) -> None:
        """Our worker has taken a part."""
        self._taken += 1
        if self.peer and not self.gone and self._told - self._next <= self.window // 2:
            self._credit()

    def heard(self, message: Crossing | Peer, now_s: float) -> None:
        """The other side says something; its key was checked."""
        if message.answers != self.own:
            self._met(message)
        elif self.gone:
            if message.stream == self._last and not _is_bye(message):
                self._say_bye(message.stream)
        elif self.peer and message.stream != self.peer:
            self._say_bye(message.stream, ANEW)
            self.lose(ANEW)
        else:
            self.peer = self._last = message.stream
            self._heard_s, self._ask_s = now_s, now_s + PING_S
            self._taken_in(message, now_s)

    def look(self, now_s: float) -> float:
        """What time brings; returns in how many seconds there may be more."""
        if self.gone:
            return GONE_S
        if not self.peer:
            if now_s >= self._open_at_s + self._open_s:
                self._open_at_s, self._open_s = now_s, min(2 * self._open_s, OPEN_LAST_S)
                self._say_open("")
            return max(0.0, self._open_at_s + self._open_s - now_s)
        if now_s - self._heard_s >= GONE_S:
            self.lose(f"expected a sign of the other half within {GONE_S:.0f} s, found nothing")
            return GONE_S
        if now_s >= self._ask_s:
            self._ask_s = now_s + PINGS_S
            self._say(Peer, what="here")
        waits = [self._ask_s - now_s]
        if self._sent:
            number, oldest = next(iter(self._sent.items()))
            if now_s >= oldest.at_s + self._patience_s():
                self._again *= 2
                self._say_again(number, oldest, now_s)
            waits.append(oldest.at_s + self._patience_s() - now_s)
        return max(0.0, min(waits))

    def repeat(self, now_s: float) -> None:
        """Another connection stands: what was not answered is said again."""
        if self.gone:
            return
        if not self.peer:
            self._say_open("")
        for number, sent in self._sent.items():
            self._say_again(number, sent, now_s)

    def end(self, reason: str = "") -> None:
        """Our worker is done; with a reason at once, and else when the other side has all."""
        self.ended, self._why = True, reason
        if self.gone or not (reason or self.settled):
            return
        if self.peer:
            self._say_bye(self.peer)
        self.lose("ended")

    def take_stale(self) -> int:
        """Messages of other streams since this was asked."""
        found, self.stale = self.stale, 0
        return found

    def take_repeated(self) -> int:
        """Parts that were said again since this was asked."""
        found, self.repeated = self.repeated, 0
        return found

    # ------------------------------------------------------------------------------------------ inside

    def _met(self, message: Crossing | Peer) -> None:
        """Somebody who does not name our stream: whoever is there now says so when he is asked."""
        if not isinstance(message, Peer) or message.what != "open" or message.answers:
            self.stale += 1
        elif self.gone:
            self._say_bye(message.stream)
        else:
            self._say_open(message.stream)

    def _taken_in(self, message: Crossing | Peer, now_s: float) -> None:
        if isinstance(message, Crossing):
            self._crossed(message)
        elif message.what in ("open", "credit"):
            self._credited(message.fields, now_s)
            if message.what == "open":
                self._credit()
        elif message.what == "here":
            self._credit()
        elif message.what == "bye":
            self.lose(str(message.fields.get("reason") or ENDED)[:300])

    def _crossed(self, message: Crossing) -> None:
        number = message.number
        if self._next <= number < self._taken + self.window and len(message.data) <= PART_LIMIT_BYTES:
            self._early.setdefault(number, _part_of(message))
            while self._next in self._early:
                self.parts.append(self._early.pop(self._next))
                self._next += 1
        self._credit()

    def _credited(self, fields: Mapping[str, Any], now_s: float) -> None:
        below, until = fields.get("next"), fields.get("until")
        if not isinstance(below, int) or not isinstance(until, int) or not 0 <= below <= self._number:
            return
        answered = [number for number in self._sent if number < below]
        for number in answered:
            sent = self._sent.pop(number)
            took_s = max(0.001, now_s - sent.first_s)
            self._answer_s = 0.875 * self._answer_s + 0.125 * took_s if self._answer_s else took_s
            self._again = 1.0
        self._until = max(self._until, min(until, below + 4 * WINDOW))
        self._go_on(now_s)
        if self.ended and self.settled and not self.gone:
            self.end()

    def _go_on(self, now_s: float) -> None:
        most = self.window if 0 < self._answer_s < LONG_S else FEW
        while self._queue and self._number < self._until and len(self._sent) < most:
            part = self._queue.pop(0)
            self._sent[self._number] = _Sent(part, now_s, now_s)
            self._say(Crossing, number=self._number, **part)
            self._number += 1

    def _patience_s(self) -> float:
        usual = AGAIN_TIMES * self._answer_s if self._answer_s else AGAIN_UNKNOWN_S
        return min(max(AGAIN_FIRST_S, usual) * self._again, AGAIN_LAST_S)

    def _credit(self) -> None:
        self._told = self._taken + self.window
        self._say(Peer, what="credit", fields={"next": self._next, "until": self._told})

    def _say_open(self, to: str) -> None:
        self._say(Peer, what="open", answers=to, fields={"next": self._next, "until": self._taken + self.window})

    def _say_bye(self, to: str, reason: str = "") -> None:
        reason = reason or self._why
        self._say(Peer, what="bye", answers=to, fields={"reason": reason} if reason else {})

    def _say_again(self, number: int, sent: _Sent, now_s: float) -> None:
        sent.at_s = now_s
        self.repeated += 1
        self._say(Crossing, number=number, **sent.part)

    def lose(self, reason: str) -> None:
        """There is no other side any more."""
        self.gone = reason
        self._queue.clear()
        self._sent.clear()
        self._early.clear()

    def _say(self, kind: type, **fields: Any) -> None:
        self.out.append((kind, {"stream": self.own, "answers": self.peer, **fields}))


def _is_bye(message: Crossing | Peer) -> bool:
    return isinstance(message, Peer) and message.what == "bye"


def _part_of(message: Crossing) -> Part:
    names = ("what", "step", "micro", "part", "parts", "fields", "data")
    return {name: getattr(message, name) for name in names}
