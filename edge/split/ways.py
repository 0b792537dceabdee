"""Which way a half's messages take: a direct connection where one stands, and else the broker.

On the core's thread, but for the threads of connections, which hand over what they have by `core.call`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import EdgequiltError, TransportError, UsageError
from edge.split.direct import CERTIFICATE, Link, Listener, dial
from wire.envelope import unseal
from wire.messages import Crossing, Peer, decode

if TYPE_CHECKING:
    from edge.core import Core
    from edge.split.half import Half

log = logging.getLogger("edgequilt.agent")
AGAIN_S, SOON_S = 30.0, 5.0  # between two attempts to connect: to a tail that was met, or that the broker keeps from us
Hear = Callable[[str, type[Crossing | Peer], bytes], None]


class Ways:
    """Connections of a core's halves.

    Args:
        core: whose they are.
        hear: is given what comes on a connection whose other side is known: its device, the kind, the signed message.
        refuse: counts what is not believed, by a word.
    """

    def __init__(self, core: Core, hear: Hear, refuse: Callable[[str], None]) -> None:
        self._core, self._hear, self._refuse = core, hear, refuse
        self._listener: Listener | None = None
        self._dialed: dict[int, Half] = {}  # by id of a link that has proved nothing yet
        self._open = set[Link]()

    def listen(self, halves: Callable[[], list[Half]]) -> str:
        """Let boards connect, where agent.toml says so; the address that they are told, or nothing."""
        door = self._core.setup.config.split
        if door is None:
            return ""
        try:
            self._listener = Listener(door, lambda link: self._serve(link, halves), seats=self._core.seats.count)
        except TransportError as error:
            log.error("%s", error)  # noqa: TRY400  # one line, no traceback
            return ""
        return door.address

    def send(self, half: Half, kind: type[Crossing | Peer], message: bytes) -> bool:
        """Send by a direct connection; False: there is none that takes it."""
        return half.link is not None and half.link.line.send(kind, message)

    def look(self, half: Half, now_s: float) -> None:
        """Connect, where the job has an address and there is no connection."""
        files = self._core.setup.config.broker
        wanted = half.other.address and half.link is None and half.over_at is None and not half.stream.gone
        there = half.stream.peer or half.denied_at is not None  # a tail whose job has not begun knows nobody
        if not wanted or not there or half.dialing or now_s < half.dial_at_s or not files.certificate or not files.key:
            return
        half.dialing, half.dial_at_s = True, now_s + (AGAIN_S if half.stream.peer else SOON_S)
        given = (half, Path(files.certificate), Path(files.key))
        threading.Thread(target=self._dial, args=given, name="split-tail", daemon=True).start()

    def part(self, half: Half) -> None:
        """The half needs no connection any more."""
        if half.link is not None:
            half.link.line.close()

    def close(self) -> None:
        """End all of them."""
        if self._listener is not None:
            self._listener.close()
        for link in list(self._open):
            link.line.close()

    # ------------------------------------------------------------------------------- threads of connections

    def _serve(self, link: Link, halves: Callable[[], list[Half]]) -> None:
        self._core.call(lambda: self._met(link, halves()))
        self._run(link)

    def _dial(self, half: Half, certificate: Path, key: Path) -> None:
        from wire.https import parse_address

        try:
            link = dial(*parse_address(half.other.address), certificate, key)
        except (TransportError, UsageError) as error:
            log.info("%s; it is spoken to through the broker", error)
            self._core.call(lambda: self._not_there(half))
            return
        self._core.call(lambda: self._connected(half, link))
        self._run(link)
        self._core.call(lambda: self._not_there(half))

    def _run(self, link: Link) -> None:
        link.run(self._core.call, self._take)
        self._core.call(lambda: self._parted(link))

    # ------------------------------------------------------------------------------------- the core's thread

    def _met(self, link: Link, halves: list[Half]) -> None:
        """A board has connected, whose certificate says its name."""
        half = next((h for h in halves if h.other.name == link.name and not h.other.tail and h.over_at is None), None)
        if half is None:
            self._refuse("stranger")
            link.line.close()
            return
        self._open.add(link)
        own, fields = self._core.setup.voice, {CERTIFICATE: link.shown}
        proof = {"job": half.other.job, "stream": half.stream.own, "what": "proof", "fields": fields}
        link.line.send(Peer, own.sealed_to(half.other.name, Peer, **proof)[1])
        self._use(half, link)

    def _connected(self, half: Half, link: Link) -> None:
        self._open.add(link)
        self._dialed[id(link)] = half

    def _not_there(self, half: Half) -> None:
        half.dialing = False

    def _take(self, link: Link, kind: type[Crossing | Peer], message: bytes) -> None:
        half = self._dialed.pop(id(link), None)
        if half is not None:
            if kind is Peer and _proves(half, link, message):
                self._use(half, link)
            else:
                self._refuse("forged")
                link.line.close()
        elif link.half is not None:
            self._hear(link.half.other.name, kind, message)

    def _use(self, half: Half, link: Link) -> None:
        self.part(half)
        half.link, link.half = link, half
        log.info("%s: there is a direct connection with %s", half.id, half.other.name)
        half.stream.repeat(self._core.now())

    def _parted(self, link: Link) -> None:
        self._open.discard(link)
        self._dialed.pop(id(link), None)
        half, link.half = link.half, None
        if half is not None and half.link is link:
            half.link = None
            if half.over_at is None:
                log.info("%s: the direct connection is gone (%s); the broker takes its place", half.id, link.line.why)
            half.stream.repeat(self._core.now())


def _proves(half: Half, link: Link, message: bytes) -> bool:
    """Whether the tail that the hub named says that this connection's certificate is its own."""
    try:
        body, _ = unseal(message, "device", half.trust, "the proof of a tail")
        proof = decode(body, Peer)
    except EdgequiltError:
        return False
    said = (proof.what, proof.job, proof.sender.device, proof.fields.get(CERTIFICATE))
    return said == ("proof", half.other.job, half.other.name, link.shown)
