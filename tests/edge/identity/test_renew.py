"""Renewal: before a certificate runs out, long after it did, with clocks that are wrong, and not for who is revoked."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from console.errors import EdgequiltError, HubError, SignatureError, TransportError
from edge.identity.claim import claim
from edge.identity.configuration import Wishes
from edge.identity.due import SHARE, SPREAD, Said, due_at, present
from edge.identity.keeper import REFUSED_S, Keeper
from edge.identity.record import Identity, read_identity, write_identity
from edge.identity.renew import hub_time, renew
from hub import authority
from hub.identity.renewal import Nonces
from hub.show import status as show_status
from hub.store.writes import put_device
from tests.conftest import ROOT
from tests.hub.web.hubs import DAY_S, Hub, running
from tests.hub.web.places import serving
from wire.clock import BUILT_S, plausible
from wire.https import Refused, Server, get_json, post_json
from wire.identity import NONCE_PATH, RENEWAL_PATH, Renewal, signed
from wire.keys import new_key, read_private_key
from wire.tls import client_context, request_for

NOW_S = BUILT_S + 30 * DAY_S


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all tests that take other names than the rest."""
    with running(tmp_path_factory.mktemp("renewals") / "hub") as made:
        yield made


@pytest.fixture
def name(hub: Hub) -> str:
    """A name that no test has taken."""
    return hub.name()


@pytest.fixture
def board(hub: Hub, name: str, tmp_path: Path) -> Path:
    """The folder of a board that has claimed the name."""
    claim(hub.token(name), tmp_path / "b", Wishes())
    return tmp_path / "b"


def certificate(board: Path) -> x509.Certificate:
    """What a board shows."""
    return x509.load_pem_x509_certificate((board / "tls.pem").read_bytes())


def age(hub: Hub, board: Path, days: float) -> None:
    """Let a board have a certificate that ran out so many days ago."""
    name = (read_identity(board) or pytest.fail("no identity")).name
    request = request_for(name, board / "old.key")
    made = authority.issue_device(authority.load(hub.folder), name, request, -days)
    (board / "tls.pem").write_bytes(made + (board / "old.key").read_bytes())


def test_a_renewal_brings_a_new_key(hub: Hub, name: str, board: Path) -> None:
    """Every certificate is for a key that was made on the board for it, and the name stays."""
    before = certificate(board)

    renewed = renew(board)

    after = certificate(board)
    assert after.public_key() != before.public_key()
    assert after.subject == before.subject
    client_context(board / "ca.pem", board / "tls.pem")  # raises unless key and certificate are a pair
    assert renewed.expires_at_s == after.not_valid_after_utc.timestamp()
    assert read_identity(board) == renewed
    assert not (board / "tls-next.key").exists()


@pytest.mark.heavy
def test_a_renewal_survives_a_kill_at_every_step(hub: Hub, board: Path, tmp_path: Path) -> None:
    """At every instant the board has a certificate with its key, and the next attempt renews it and leaves no rest."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.edge.identity.killed", str(board), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    left = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(left) > 10
    assert {found["killed"] for found in left[:-1]} == {9}
    assert {found["again"] for found in left} == {0}
    assert all(found["files"] == left[-1]["files"] for found in left)


def test_a_board_that_was_away_for_years_comes_back(hub: Hub, name: str, board: Path) -> None:
    """With a certificate that ran out long ago, the device's signing key is enough."""
    age(hub, board, 1000)
    assert certificate(board).not_valid_after_utc < dt.datetime.now(dt.timezone.utc)

    renew(board)

    assert certificate(board).not_valid_after_utc > dt.datetime.now(dt.timezone.utc)


def test_a_board_without_a_usable_certificate_comes_back(hub: Hub, name: str, board: Path) -> None:
    """Nor does it need one that can be read."""
    (board / "tls.pem").write_bytes(b"damaged")
    renew(board)
    (board / "tls.pem").unlink()
    renew(board)
    assert certificate(board)


def test_who_is_revoked_gets_none(hub: Hub, name: str, board: Path) -> None:
    """A revoked device keeps what it has, and is told."""
    pem = (board / "tls.pem").read_bytes()
    with hub.service.home.ledger.transaction() as tx:
        put_device(tx, name, revoked=True)

    with pytest.raises(HubError, match="expected a device that is enrolled and not revoked"):
        renew(board)
    assert (board / "tls.pem").read_bytes() == pem


def test_a_board_learns_of_new_authorities(hub: Hub, name: str, board: Path, tmp_path: Path) -> None:
    """A renewal brings all authorities that the hub trusts, so that the next one can take over."""
    both = authority.trusted(hub.folder) + authority.create("farm", tmp_path / "next").pem
    one = authority.trusted(hub.folder)
    (hub.folder / "ca.pem").write_bytes(both)
    try:
        renew(board)
    finally:
        (hub.folder / "ca.pem").write_bytes(one)
    assert (board / "ca.pem").read_bytes() == both
    with serving(tmp_path / "next") as server:  # of the next authority
        assert get_json(Server(server.host, server.port, board / "ca.pem"), "/who")["device"] == ""


def test_a_hub_of_another_authority_renews_nothing(hub: Hub, name: str, board: Path, tmp_path: Path) -> None:
    """Whoever answers at the hub's address, without its authority nothing changes."""
    pem = (board / "tls.pem").read_bytes()
    known = read_identity(board)
    assert known is not None
    with serving(tmp_path / "other") as other:
        write_identity(board, replace(known, hub=(other.address,)))
        with pytest.raises(TransportError, match="a certificate that does not hold"):
            renew(board)
    assert (board / "tls.pem").read_bytes() == pem


def test_a_renewal_needs_the_devices_key_and_a_fresh_nonce(hub: Hub, name: str, board: Path) -> None:
    """Neither another key, nor another device's certificate, nor an old or invented nonce gets a certificate."""
    key, other = read_private_key(board / f"{name}.key"), new_key("device", name)
    request = request_for(name, board / "some.key").decode()

    def ask(server: Server, **changes: Any) -> None:
        nonce = str(get_json(server, NONCE_PATH)["nonce"])
        signer = changes.pop("key", key)
        post_json(server, RENEWAL_PATH, signed(signer, Renewal("farm", name, changes.pop("nonce", nonce), request)))

    ask(hub.server)
    with pytest.raises(Refused, match=f"expected a renewal of {name} as {name} signed it, found other bytes"):
        ask(hub.server, key=other)
    with pytest.raises(Refused, match="expected a nonce of less than five minutes"):
        ask(hub.server, nonce="AAAA")
    nonce = str(get_json(hub.server, NONCE_PATH)["nonce"])
    hub.ahead_s += 301
    try:
        with pytest.raises(Refused, match="expected a nonce of less than five minutes"):
            ask(hub.server, nonce=nonce)
    finally:
        hub.ahead_s -= 301
    stranger = hub.name()
    claim(hub.token(stranger), board.parent / "stranger", Wishes())
    pem = board.parent / "stranger" / "tls.pem"
    with pytest.raises(Refused, match="expected a device that is enrolled and not revoked"):
        ask(Server(hub.server.host, hub.server.port, hub.server.ca, pem))


@given(st.binary(max_size=40), st.integers(0, 31), st.integers(1, 255))
def test_a_hub_knows_its_own_nonces(noise: bytes, at: int, change: int) -> None:
    """What the hub did not make, or somebody changed, is not fresh."""
    import base64

    nonces = Nonces()
    made = nonces.make(1000.0)
    assert nonces.is_fresh(made, 1000.0)
    assert nonces.is_fresh(made, 1300.0)
    assert not nonces.is_fresh(made, 1300.1)
    assert not nonces.is_fresh(made, 999.0)
    assert not Nonces().is_fresh(made, 1000.0)
    assert not nonces.is_fresh(base64.urlsafe_b64encode(noise).decode(), 1000.0)
    data = bytearray(base64.urlsafe_b64decode(made))
    data[at] ^= change
    assert not nonces.is_fresh(base64.urlsafe_b64encode(bytes(data)).decode(), 1000.0)


# ------------------------------------------------------------------------------------------------ when it is due


class Clocks:
    """Those of a board, and a hub that answers what it should."""

    def __init__(self, folder: Path, wall_s: float, hub_s: float, identity: Identity) -> None:
        self.folder, self.wall_s, self.hub_s, self.steady_s = folder, wall_s, hub_s, 0.0
        self.asked: list[str] = []
        self.error: EdgequiltError | None = None
        write_identity(folder, identity)
        self.keeper = Keeper(folder, self.ask, lambda: self.wall_s, lambda: self.steady_s)

    def ask(self, what: str, folder: str) -> dict[str, Any]:
        self.asked.append(what)
        if self.error is not None:
            raise self.error
        if what == "renew":
            known = read_identity(Path(folder))
            assert known is not None
            life_s = known.expires_at_s - known.at_s
            write_identity(self.folder, replace(known, at_s=self.hub_s, expires_at_s=self.hub_s + life_s))
        return {"at_s": self.hub_s}

    def turn(self) -> float:
        """A turn, and the time until the next."""
        wait_s = self.keeper.turn()
        for clock in ("wall_s", "hub_s", "steady_s"):
            setattr(self, clock, getattr(self, clock) + wait_s)
        return wait_s


def identity(at_s: float = NOW_S, days: float = 90) -> Identity:
    """One with a certificate of so many days."""
    return Identity("farm", "barn", ("hub:1",), at_s, at_s + days * DAY_S)


def test_it_is_renewed_after_two_thirds_of_its_life(tmp_path: Path) -> None:
    """With a clock that is right; the hub is asked for its time once, and in a year for six certificates of 90 days."""
    clocks, first_s = Clocks(tmp_path, NOW_S, NOW_S, identity()), 0.0
    while clocks.hub_s < NOW_S + 365 * DAY_S:
        at_s = clocks.hub_s
        clocks.turn()
        if len(clocks.asked) == 2 and not first_s:
            first_s = at_s
    assert clocks.asked == ["time", *["renew"] * 6]
    assert SHARE - SPREAD <= (first_s - NOW_S) / (90 * DAY_S) <= SHARE


@pytest.mark.parametrize("wall_s", [0.0, 86400.0, BUILT_S - 1, NOW_S - DAY_S, 4e10], ids=str)
def test_a_clock_that_cannot_be_right_is_not_believed(tmp_path: Path, wall_s: float) -> None:
    """At 1970, before the certificate was made, or centuries ahead, the hub is asked for the time, and at once."""
    clocks = Clocks(tmp_path, wall_s, NOW_S + 89 * DAY_S, identity())
    clocks.turn()
    assert clocks.asked == ["time", "renew"]


def test_a_wrong_clock_puts_nothing_off(tmp_path: Path) -> None:
    """Asked once, the hub's time is counted on; the renewal comes when it is due by it, whatever the clock shows."""
    clocks = Clocks(tmp_path, 10.0, NOW_S + DAY_S, identity())
    while "renew" not in clocks.asked:
        clocks.turn()
    assert clocks.asked == ["time", "renew"]
    assert SHARE - SPREAD <= (clocks.hub_s - NOW_S) / (90 * DAY_S) <= SHARE


def test_a_clock_that_is_behind_is_found_out(tmp_path: Path) -> None:
    """A clock that lags by months looks right; the hub's time, asked soon after the start, says that it is late."""
    clocks = Clocks(tmp_path, NOW_S + DAY_S, NOW_S + 88 * DAY_S, identity())
    assert clocks.turn() <= 60
    clocks.turn()
    assert clocks.asked == ["time", "renew"]


def test_without_the_hub_a_plausible_clock_counts(tmp_path: Path) -> None:
    """While the hub does not answer, what is not due is not pressed, and the time is asked for again later."""
    clocks = Clocks(tmp_path, NOW_S + DAY_S, NOW_S + DAY_S, identity())
    clocks.error = TransportError("away")
    waits = [clocks.turn() for _ in range(10)]
    assert set(clocks.asked) == {"time"}
    assert sum(waits) > 2 * DAY_S


def test_a_clock_that_is_ahead_renews_once(tmp_path: Path) -> None:
    """A clock that shows next year believes the certificate to be over; the hub's time then keeps it from repeating."""
    clocks = Clocks(tmp_path, NOW_S + 365 * DAY_S, NOW_S, identity())
    for _ in range(20):
        clocks.turn()
    assert clocks.asked == ["renew"]


def test_a_hub_that_is_away_is_asked_again(tmp_path: Path) -> None:
    """Attempts go on for as long as it takes, further and further apart, but at least every hour."""
    clocks = Clocks(tmp_path, NOW_S + 89 * DAY_S, NOW_S + 89 * DAY_S, identity())
    clocks.error = TransportError("away")
    waits = [clocks.turn() for _ in range(200)]
    assert max(waits) <= 3600
    assert max(waits[:3]) <= 40
    assert max(waits) > 1000
    clocks.error = None
    clocks.turn()
    assert clocks.asked == ["renew"] * 201


def test_a_refusal_is_not_pressed(tmp_path: Path) -> None:
    """A device that the hub refuses asks again, since people change their minds, but rarely."""
    clocks = Clocks(tmp_path, NOW_S + 89 * DAY_S, NOW_S + 89 * DAY_S, identity())
    clocks.error = HubError("revoked")
    waits = [clocks.turn() for _ in range(50)]
    assert REFUSED_S / 4 < sum(waits) / len(waits) <= REFUSED_S


def test_a_certificate_that_does_not_last_is_no_reason_to_hurry(tmp_path: Path) -> None:
    """A hub that gives certificates that are over at once is not asked in a loop."""
    clocks = Clocks(tmp_path, NOW_S, NOW_S, identity(days=0))
    waits = [clocks.turn() for _ in range(30)]
    assert sum(waits[10:]) > 3600


@given(st.floats(0, 1e11), st.floats(0, 1), st.floats(1, 4000))
def test_the_present_is_never_before_the_certificate(wall_s: float, draw: float, days: float) -> None:
    """Whatever the clock shows: it is believed only from the making of the certificate on, else the hub is asked."""
    known = identity(days=days)
    now = present(known, wall_s, 0.0, None)
    assert now is None or (now == wall_s and now >= known.at_s)
    assert known.at_s < due_at(known, draw) < known.expires_at_s
    assert present(known, wall_s, 7.0, Said(NOW_S, 2.0)) == NOW_S + 5.0


def test_times_before_the_program_are_not_plausible() -> None:
    """1970, a date before this program was written, and the next century are not."""
    for year, right in ((1970, False), (2020, False), (2027, True), (2040, True), (2099, False)):
        assert plausible(dt.datetime(year, 6, 1, tzinfo=dt.timezone.utc).timestamp()) is right


# ------------------------------------------------------------------------------------------------- dates and TLS


def test_certificates_hold_on_a_board_that_woke_years_ago(hub: Hub, board: Path) -> None:
    """All of a fleet were valid years before this program was built: a clock at a system's build date is enough."""
    pems = [(board / "tls.pem"), hub.folder / "web.pem", hub.folder / "ca.pem"]
    for path in pems:
        began = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_before_utc.timestamp()
        assert began < BUILT_S - 2 * 365 * DAY_S


def test_dates_are_not_looked_at_while_the_clock_cannot_be_right(
    hub: Hub, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock at 1970 a server whose certificate is over or not begun is met; another authority's is not."""
    made = authority.load(hub.folder)
    monkeypatch.setattr(authority, "SERVER_DAYS", -1)
    authority.issue_server(made, ["127.0.0.1"], tmp_path, "web")
    monkeypatch.undo()
    (tmp_path / "ca.pem").write_bytes(made.pem)
    (tmp_path / "ca.key").write_bytes((hub.folder / "ca.key").read_bytes())
    (tmp_path / "other").mkdir()
    other = authority.create("farm", tmp_path / "other").pem.decode()
    old = (tmp_path / "web.pem").read_bytes(), (tmp_path / "web.key").read_bytes()
    with serving(tmp_path, files=old) as server:
        with pytest.raises(TransportError, match="certificate has expired"):
            get_json(server, "/who")
        monkeypatch.setattr("wire.clock.time.time", lambda: 10.0)
        assert get_json(server, "/who")["device"] == ""
        with pytest.raises(TransportError, match="a certificate that does not hold"):
            get_json(Server(server.host, server.port, other), "/who")


def test_a_context_looks_again(tmp_path: Path, hub: Hub, board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clock becomes right, dates count again."""
    from wire.tls import NO_CHECK_TIME, look_again

    monkeypatch.setattr("wire.clock.time.time", lambda: 10.0)
    context = client_context(board / "ca.pem", board / "tls.pem")
    assert int(context.verify_flags) & NO_CHECK_TIME
    monkeypatch.undo()
    look_again(context, board / "ca.pem", board / "tls.pem")
    assert not int(context.verify_flags) & NO_CHECK_TIME
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_the_hub_says_the_time(hub: Hub, board: Path) -> None:
    """A board can ask for it."""
    assert abs(hub_time(board) - hub.service.clock()) < 60


def test_people_see_who_should_have_renewed(tmp_path: Path) -> None:
    """The hub knows until when each certificate lasts, and names the boards that are late."""
    with running(tmp_path / "hub", days=8) as hub:
        for name in ("barn", "coop"):
            claim(hub.token(name), tmp_path / name, Wishes())

        def late() -> tuple[dict[str, float], str]:
            found = show_status.status(hub.service.home, "", [], hub.service.clock())
            return found["certificates_late"], show_status.status_text(found)

        def ends_in(left_s: float) -> None:
            with hub.service.home.ledger.transaction() as tx:
                put_device(tx, "barn", expires_at_s=hub.service.clock() + left_s)

        assert late()[0] == {}
        ends_in(2 * DAY_S - 60)
        assert late()[0].keys() == {"barn"}
        assert "boards that should have renewed their certificate: barn (47h left)" in late()[1]
        ends_in(-60)
        assert "boards that should have renewed their certificate: barn (it has run out)" in late()[1]
        renew(tmp_path / "barn")
        assert late()[0] == {}
        events = [row["text"] for row in hub.service.home.ledger.events()]
        assert sum("came by a claim token, with key " in text for text in events) == 2


def test_an_answer_for_another_key_changes_nothing(hub: Hub, name: str, board: Path) -> None:
    """A certificate that is not for the key in hand is not kept."""
    from edge.identity.folder import write_certificate
    from hub.identity.grant import granted

    pem = (board / "tls.pem").read_bytes()
    request_for(name, board / "tls-next.key")
    made = granted(hub.service.home, name, pem.partition(b"-----BEGIN PRIVATE")[0], hub.service.where(), NOW_S)
    with pytest.raises(SignatureError, match="expected a certificate for our key"):
        write_certificate(board, made)
    assert (board / "tls.pem").read_bytes() == pem
    assert not (board / "tls.pem.new").exists()


def test_an_authority_takes_over_while_boards_go_on(tmp_path: Path) -> None:
    """As docs/operations.md says it: both believed, the next one signs, and a board that renewed meets either."""
    import shutil

    with running(tmp_path / "hub") as hub:
        claim(hub.token("barn-1"), tmp_path / "b", Wishes())
        authority.create("farm", tmp_path / "next")
        old, new = (tmp_path / "hub" / "ca.pem").read_bytes(), (tmp_path / "next" / "ca.pem").read_bytes()
        (tmp_path / "hub" / "ca.pem").write_bytes(old + new)
        renew(tmp_path / "b")
        assert (tmp_path / "b" / "ca.pem").read_bytes() == old + new

        (tmp_path / "hub" / "ca.pem").write_bytes(new + old)
        shutil.copy(tmp_path / "next" / "ca.key", tmp_path / "hub" / "ca.key")
        hub.begin_anew()
        renew(tmp_path / "b")  # over a server's certificate of the new one, with one of ours of the old
        certificate(tmp_path / "b").verify_directly_issued_by(authority.load(tmp_path / "next").certificate)
        claim(hub.token("barn-2"), tmp_path / "c", Wishes())

        (tmp_path / "hub" / "ca.pem").write_bytes(new)
        hub.begin_anew()
        renew(tmp_path / "b")
        assert (tmp_path / "b" / "ca.pem").read_bytes() == new
