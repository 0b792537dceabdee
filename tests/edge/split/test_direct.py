"""The direct way: who gets in, who is believed, who is dropped, and what happens when it breaks."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.split.direct import CERTIFICATE, Link, Listener, dial
from edge.split.line import FRAME_LIMIT_BYTES, Frames, Limits, frame
from edge.split.table import Door, SplitTable, door
from hub import authority
from tests.edge.boards import Board
from tests.edge.split.places import BARN, COOP, JOB, Direct, Two, make_boards, two
from wire.envelope import seal
from wire.keys import new_key
from wire.messages import Crossing, Peer, Sender, encode
from wire.tls import listening_context, new_request

QUICK = Limits(handshake_s=1.0, frame_s=1.0, slowest_bytes_s=1e9, silence_s=2.0)
PATIENCE_S = 15.0


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Board]:
    """The files of a board and of a tail."""
    return make_boards(tmp_path_factory.mktemp("halves"))


@pytest.fixture
def place(tmp_path: Path) -> Direct:
    """Certificates of a fleet, a free port, and a broker that loses nothing."""
    return Direct(tmp_path / "place", alone=False)


@pytest.fixture
def halves(place: Direct, boards: dict[str, Board]) -> Iterator[Two]:
    """Both agents, the tail listening."""
    with two(place, boards, 60.0) as made:
        yield made


@pytest.fixture
def told() -> list[Any]:
    """What boards said that got in: their names and their messages."""
    return []


@pytest.fixture
def listener(place: Direct, told: list[Any]) -> Iterator[Listener]:
    """A tail's door alone, with small limits."""

    def met(link: Link) -> None:
        told.append(link.name)
        link.run(lambda what: what(), lambda link, kind, message: told.append((kind, message)))
        told.append(link.line.why)

    made = Listener(_door(place, COOP), met, QUICK)
    yield made
    made.close()


def _door(place: Direct, name: str) -> Door:
    own, key = place.folder / f"{name}.pem", place.folder / f"{name}.tls.key"
    return Door("127.0.0.1", place.port, f"127.0.0.1:{place.port}", place.folder / "ca.pem", own, key)


def client(place: Direct, name: str | None = BARN, folder: Path | None = None) -> ssl.SSLSocket:
    """A connection as a stranger's program makes it, with a certificate of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if name is not None:
        at = folder or place.folder
        context.load_cert_chain(at / f"{name}.pem", at / f"{name}.tls.key")
    made = context.wrap_socket(socket.create_connection(("127.0.0.1", place.port), timeout=PATIENCE_S))
    made.settimeout(PATIENCE_S)
    return made


def ends(connection: socket.socket) -> bool:
    """Whether the other side ends it; what it says before is nobody's business."""
    with contextlib.suppress(OSError, ssl.SSLError):
        while connection.recv(4096):
            pass
    connection.close()
    return True


def until(condition: Callable[[], Any]) -> bool:
    """Whether it holds within some seconds."""
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.01)
    return True


# ---------------------------------------------------------------------------------------- who gets in


def test_only_the_fleet_gets_in(place: Direct, listener: Listener, told: list[Any], tmp_path: Path) -> None:
    """Neither plain bytes, nor TLS without a certificate, nor one of another authority; one of the fleet does."""
    (tmp_path / "other").mkdir()
    other = authority.create("other", tmp_path / "other")
    _, request = new_request(BARN, tmp_path / "other")
    (tmp_path / "other" / f"{BARN}.pem").write_bytes(authority.issue_device(other, BARN, request.read_bytes()))

    plain = socket.create_connection(("127.0.0.1", place.port), timeout=PATIENCE_S)
    plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert ends(plain)
    assert ends(client(place, None))
    assert ends(client(place, BARN, tmp_path / "other"))
    assert until(lambda: listener.refused == 3)
    assert told == []

    good = client(place)
    good.sendall(frame(Peer, b"hello"))
    assert until(lambda: told == [BARN, (Peer, b"hello")])
    good.close()


def test_a_device_without_a_job_is_shut_out(halves: Two, place: Direct) -> None:
    """A certificate of the fleet is not enough: whose half runs here is let in, and nobody else."""
    place.certify("mill")
    halves.ask(BARN, notes=100, slow_s=0.02)
    halves.ask(COOP)
    halves.run(lambda: halves.counts(COOP).get("crossings"))
    stranger, gone = client(place, "mill"), list[bool]()
    threading.Thread(target=lambda: gone.append(ends(stranger)), daemon=True).start()
    halves.run(lambda: gone)
    assert halves.counts(COOP)["stranger"] == 1


# -------------------------------------------------------------------------------------- who is believed


class FalseTail:
    """Listens where the tail should, with a device's certificate, and says something first."""

    def __init__(self, place: Direct, name: str, says: Callable[[str], bytes]) -> None:
        self.came: list[bytes] = []
        own = _door(place, name)
        self._context = listening_context(own.ca, own.certificate, own.key)
        pem = own.certificate.read_text()
        from wire.files import digest

        self._says, self._shown = says, digest(ssl.PEM_cert_to_DER_cert(pem))
        self._socket = socket.create_server(("127.0.0.1", place.port))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._socket.accept()[0]
                with contextlib.suppress(OSError), self._context.wrap_socket(connection, server_side=True) as wrapped:
                    wrapped.settimeout(PATIENCE_S)
                    wrapped.sendall(self._says(self._shown))
                    while data := wrapped.recv(4096):
                        self.came.append(data)
                    self.came.append(b"")

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("lie", ["its own key", "a proof of another connection", "another job", "no proof", "nothing"])
def test_a_false_tail_hears_nothing(place: Direct, boards: dict[str, Board], lie: str) -> None:
    """Who listens at the tail's address, with any certificate of the fleet, is told nothing; the broker serves."""
    place.certify("mill")
    true, own = boards[COOP].key, new_key("device", COOP)

    def proof(key: Any, shown: str, job: str = JOB, what: Any = "proof") -> bytes:
        said = Peer(Sender(COOP, "b", 1), job, "0" * 16, what, fields={CERTIFICATE: shown})
        return frame(Peer, seal(key, encode(said)))

    lies: dict[str, Callable[[str], bytes]] = {
        "its own key": lambda shown: proof(own, shown),
        "a proof of another connection": lambda shown: proof(true, "0" * 64),
        "another job": lambda shown: proof(true, shown, job="r0-train-barn"),
        "no proof": lambda shown: proof(true, shown, what="open"),
        "nothing": lambda shown: b"",
    }
    false = FalseTail(place, "mill", lies[lie])
    with two(place, boards, 60.0) as halves:
        assert halves.cores[COOP].crossings.address == ""  # the port is taken, which is no reason to end
        address = f"127.0.0.1:{place.port}"
        halves.address = lambda name: address if name == BARN else ""  # type: ignore[method-assign]  # as a hub would say it
        halves.ask(BARN, notes=120, bytes=10)
        halves.ask(COOP, slow_s=0.03)
        halves.run(lambda: halves.done() and (lie == "nothing" or halves.counts(BARN).get("forged")))
        assert lie == "nothing" or halves.counts(BARN)["forged"] >= 1
    false.close()
    assert b"".join(false.came) == b""
    assert lie == "nothing" or false.came  # it was connected to


# -------------------------------------------------------------------------------------- who is dropped


def test_who_is_slow_is_dropped(place: Direct, listener: Listener, told: list[Any]) -> None:
    """No handshake, no first frame, a frame that comes byte by byte, a silence: each has its time."""
    begun = time.monotonic()
    silent = socket.create_connection(("127.0.0.1", place.port), timeout=PATIENCE_S)
    dripping = socket.create_connection(("127.0.0.1", place.port), timeout=PATIENCE_S)
    hello = b"\x16\x03\x01\x02\x00" + bytes(100)

    def drip() -> None:
        with contextlib.suppress(OSError):
            for at in range(100):
                dripping.sendall(hello[at : at + 1])
                time.sleep(0.2)

    threading.Thread(target=drip, daemon=True).start()
    mute, slow = client(place), client(place)

    def trickle() -> None:
        with contextlib.suppress(OSError):
            slow.sendall(frame(Peer, b"first"))
            for at in range(100):
                slow.sendall(frame(Peer, bytes(200))[at : at + 1])
                time.sleep(0.2)

    threading.Thread(target=trickle, daemon=True).start()
    assert all(ends(one) for one in (silent, dripping, mute))
    assert until(lambda: "too slow" in told)
    assert time.monotonic() - begun < 12
    assert {"silent", "too slow"} <= {one for one in told if isinstance(one, str)}
    assert listener.refused == 2


@pytest.mark.parametrize(
    "bad",
    [
        struct.pack(">I", FRAME_LIMIT_BYTES + 1) + b"p",
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", 0),
        struct.pack(">I", 1) + b"p",
        struct.pack(">I", 9) + b"xevilevil",
    ],
    ids=["too long", "longest", "empty", "nothing in it", "of no kind"],
)
def test_what_is_no_frame_ends_the_connection(place: Direct, listener: Listener, told: list[Any], bad: bytes) -> None:
    """A length is looked at before its bytes are waited for."""
    connection = client(place)
    connection.sendall(frame(Peer, b"good") + bad)
    assert ends(connection)
    assert until(lambda: len(told) == 3)
    assert told[1] == (Peer, b"good")
    assert "expected a frame of" in told[2]


def test_an_address_has_few_connections(place: Direct, listener: Listener, told: list[Any]) -> None:
    """One more than there may be is closed at once; when one ends there is room again."""
    inside = [client(place) for _ in range(listener.per_address)]
    assert until(lambda: len(told) == listener.per_address)
    with pytest.raises(OSError):  # noqa: PT011  # of several kinds, by how far it came
        client(place).recv(1)
    inside[0].close()
    assert until(lambda: len(told) > listener.per_address)
    client(place).sendall(frame(Peer, b"room"))
    assert until(lambda: (Peer, b"room") in told)


def test_frames_come_apart_anywhere() -> None:
    """However the bytes are cut, the frames are the same."""
    said = [(Peer, b"a"), (Crossing, bytes(3000)), (Peer, b"bc"), (Crossing, b"\xff" * 70_000)]
    whole = b"".join(frame(kind, message) for kind, message in said)
    for size in (1, 3, 4, 5, 7, 4096, 1 << 20):
        frames, found = Frames(), list[Any]()
        for at in range(0, len(whole), size):
            found += list(frames.add(whole[at : at + size]))
        assert found == said
        assert frames.begun == 0


# --------------------------------------------------------------------------------------- when it breaks


def test_a_connection_that_breaks_costs_nothing_but_the_way(halves: Two) -> None:
    """It is cut again and again in the middle of a job: the broker goes on, a new one takes over, nothing is lost."""
    ways, cuts = set[str](), 0

    def cutting() -> bool:
        nonlocal cuts
        for name in (BARN, COOP):
            found = halves.cores[name].crossings._carry
            for half in found.halves if found is not None else []:
                if half.link is not None and half.other.tail:
                    ways.add("direct")
                    if half.stream._number > 6 * (cuts + 1):
                        cuts += 1
                        with contextlib.suppress(OSError):  # it is ended already
                            half.link.line._sock.shutdown(socket.SHUT_RDWR)
        return halves.done()

    halves.ask(BARN, notes=60, bytes=30_000)
    halves.ask(COOP, slow_s=0.06)
    halves.run(cutting)
    assert ways == {"direct"}
    assert cuts >= 1
    assert any("/crossing" in topic for topic, _ in halves.place.network.history)


def test_what_goes_directly_does_not_go_through_the_broker(halves: Two) -> None:
    """Once the connection stands, no numbers cross the broker."""
    halves.ask(BARN, notes=60, bytes=30_000)
    halves.ask(COOP, slow_s=0.06)
    halves.run(lambda: all(_way(halves, name) == "direct" for name in (BARN, COOP)))
    before = len([topic for topic, _ in halves.place.network.history if "/crossing" in topic])
    halves.run(halves.done)
    assert len([topic for topic, _ in halves.place.network.history if "/crossing" in topic]) - before <= 1
    assert before < 100


def _way(halves: Two, name: str) -> str:
    return "".join(one["way"] for one in halves.counts(name).get("now", []))


def test_a_renewed_certificate_serves_the_next_connection(place: Direct, listener: Listener) -> None:
    """The files are read at each connection: an agent renews its certificate while it runs."""
    files = _door(place, BARN)
    first = dial("127.0.0.1", place.port, files.certificate, files.key)
    first.line.end()
    request = place.folder / f"{COOP}.csr"
    (place.folder / f"{COOP}.pem").write_bytes(authority.issue_device(place.found, COOP, request.read_bytes()))
    second = dial("127.0.0.1", place.port, files.certificate, files.key)
    second.line.end()
    assert first.shown != second.shown


# ---------------------------------------------------------------------------------------- agent.toml

FILES = ("ca.pem", "barn.pem", "barn.key")


@pytest.mark.parametrize(
    ("table", "files", "words"),
    [
        (SplitTable("0.0.0.0:8886"), FILES, "split.address: expected HOST:PORT as boards reach this agent"),
        (SplitTable("nowhere"), FILES, "split.listen: expected HOST:PORT, found 'nowhere'"),
        (SplitTable(address="x:1"), FILES, "split.listen: expected HOST:PORT, found nothing"),
        (SplitTable("127.0.0.1:8886", "x"), FILES, "split.address: expected HOST:PORT, found 'x'"),
        (SplitTable("127.0.0.1:8886"), ("ca.pem", None, None), "expected broker.ca, broker.certificate and broker.key"),
    ],
)
def test_a_table_that_leads_nowhere_is_said(table: SplitTable, files: Any, words: str) -> None:
    """What is wrong with it stands among the problems of agent.toml."""
    problems: list[str] = []
    door(table, files, problems)
    assert words in "; ".join(problems)


def test_a_table_says_where(halves: Two) -> None:
    """With one, the agent listens and tells the hub where; without one, nothing listens."""
    problems: list[str] = []
    made = door(SplitTable("0.0.0.0:8886", "tail.example:8886"), FILES, problems)
    assert problems == []
    assert made is not None
    assert (made.host, made.port, made.address) == ("0.0.0.0", 8886, "tail.example:8886")
    assert door(None, FILES, problems) is None
    assert door(SplitTable(), (None, None, None), problems) is None
    assert halves.cores[COOP].crossings.address == f"127.0.0.1:{halves.place.port}"
    assert halves.cores[BARN].crossings.address == ""
