"""Claiming a name: what a board sends, when it is believed, and what it keeps."""

from __future__ import annotations

import json
import logging
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from console.errors import HubError, SignatureError, TransportError, UsageError
from edge.config import read_config
from edge.identity.claim import claim
from edge.identity.configuration import Wishes
from edge.identity.record import read_identity
from hub import authority
from hub.identity import claims
from hub.store.writes import put_device
from hub.web.routes import Answer, Asked, Handler, Within
from hub.web.server import WebServer
from hub.web.table import ROUTES
from tests.conftest import ROOT
from tests.hub.web.hubs import DAY_S, Hub, running
from tests.hub.web.places import Relay, serving
from wire.https import Refused, post_json
from wire.identity import CLAIM_PATH, Claim, signed
from wire.keys import new_key, read_public_key
from wire.tls import request_for


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all tests that take other names than the rest."""
    with running(tmp_path_factory.mktemp("claims") / "hub") as made:
        yield made


@pytest.fixture
def name(hub: Hub) -> str:
    """A name that no test has taken."""
    return hub.name()


def test_a_board_gets_all_that_it_needs(hub: Hub, name: str, tmp_path: Path) -> None:
    """From a token alone come keys that never left the board, a certificate of the fleet, and a whole configuration."""
    found = claim(hub.token(name), tmp_path / "b", Wishes(tmp_path / "made", tmp_path / "b" / "rows.csv"))

    folder = tmp_path / "b"
    assert (found.identity.name, found.identity.fleet, found.anew) == (name, "farm", True)
    assert hub.known()[name] == read_public_key(folder / f"{name}.pub", "device").line.split()[2]
    assert name in hub.allowed[-1]
    pem = (folder / "tls.pem").read_bytes()
    certificate, key = x509.load_pem_x509_certificate(pem), serialization.load_pem_private_key(pem, None)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(authority.load(hub.folder).certificate)
    for file in (f"{name}.key", "tls.pem"):
        assert stat.S_IMODE((folder / file).stat().st_mode) == 0o600
    assert not (folder / "tls-next.key").exists()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "manifest.json").touch()
    (folder / "rows.csv").touch()
    config = read_config(folder / "agent.toml")
    assert (config.name, config.fleet, config.broker.url) == (name, "farm", "mqtts://127.0.0.1:8883")
    assert config.data == folder / "rows.csv"
    assert config.bundle == tmp_path / "made"
    publisher = read_public_key(config.publisher_keys[0], "publisher")
    assert publisher.raw == hub.publisher.public.raw


def test_no_private_key_leaves_the_board(hub: Hub, name: str, tmp_path: Path) -> None:
    """Of all bytes that a board sends, also to a hub that keeps none of its promises, none are of its keys."""
    asked: list[bytes] = []
    routes = [replace(r, handler=_heard(r.handler, asked)) for r in ROUTES]
    files = (hub.folder / "web.pem", hub.folder / "web.key", hub.folder / "ca.pem")
    server = WebServer("127.0.0.1", 0, files, routes, hub.within)
    claim(hub.token(name), tmp_path / "b", Wishes(), f"127.0.0.1:{server.port}")
    server.close()
    said = b"".join(asked)
    assert name.encode() in said
    for file in (f"{name}.key", "tls.pem"):
        text = (tmp_path / "b" / file).read_text()
        body = text.partition("PRIVATE KEY-----\n")[2].partition("\n-----END")[0]
        assert body
        for line in body.split("\n"):
            assert line.encode() not in said


def _heard(handler: Handler, asked: list[bytes]) -> Handler:
    def hear(within: Within, request: Asked) -> Answer:
        asked.append(request.body)
        return handler(within, request)

    return hear


def test_a_token_is_used_once(hub: Hub, name: str, tmp_path: Path) -> None:
    """The same board gets the same answer again, without asking where it knows; another board gets none."""
    token = hub.token(name)
    first = claim(token, tmp_path / "b", Wishes())
    certificate = (tmp_path / "b" / "tls.pem").read_bytes()
    assert claim(token, tmp_path / "b", Wishes()) == replace(first, anew=False)

    with pytest.raises(HubError, match=f"found that another board is {name} by it"):
        claim(token, tmp_path / "thief", Wishes())
    assert not (tmp_path / "thief" / "agent.toml").exists()
    assert read_identity(tmp_path / "thief") is None
    assert (tmp_path / "b" / "tls.pem").read_bytes() == certificate
    assert hub.state(name) == "used"


def test_a_lost_answer_is_given_again(tmp_path: Path) -> None:
    """The same keys get the same certificate again, until the token expires."""
    with running(tmp_path / "hub") as hub:
        token = hub.token("barn-1", expires_s=1000)
        key = new_key("device", "barn-1")
        server = hub.server

        def ask() -> str:
            request = request_for("barn-1", tmp_path / "tls.key").decode()
            body = Claim("farm", "barn-1", token.secret.hex(), key.public.line, request)
            return str(post_json(server, CLAIM_PATH, signed(key, body))["certificate"])

        assert ask() == ask()
        hub.ahead_s = 1001
        with pytest.raises(Refused, match="found one of barn-1 that has expired"):
            ask()


def test_what_is_wrong_with_a_token_only_its_holder_learns(tmp_path: Path) -> None:
    """Who knows no secret hears the same of every name: open, used, expired, cancelled or never heard of."""
    with running(tmp_path / "hub") as hub:
        for name in ("open", "used", "old", "gone"):
            token = hub.token(name, expires_s=60 if name == "old" else DAY_S)
            if name == "used":
                claim(token, tmp_path / "used", Wishes())
        claims.cancel(hub.service.home, ["gone"])
        hub.ahead_s = 61
        words = set()
        for name in ("open", "used", "old", "gone", "unknown"):
            guess = replace(token, name=name, secret=bytes(16))
            with pytest.raises(Refused) as refused:
                claim(guess, tmp_path / name / "guess", Wishes())
            words.add((refused.value.status, str(refused.value)))
        assert len(words) == 1
        assert "expected a claim token that holds, found none of this hub" in words.pop()[1]
        assert hub.known().keys() == {"used"}


def test_the_ledger_does_not_know_the_secret(tmp_path: Path) -> None:
    """Whoever reads the hub's folder finds no token that can be claimed."""
    with running(tmp_path / "hub") as hub:
        token = hub.token("barn-1")
    data = b"".join(path.read_bytes() for path in (tmp_path / "hub").iterdir() if path.is_file())
    assert b"barn-1" in data
    assert token.secret not in data
    assert token.secret.hex().encode() not in data
    assert token.text.encode() not in data


def test_a_name_is_not_taken_from_a_board(hub: Hub, name: str, tmp_path: Path) -> None:
    """A token for an enrolled name is made only on demand, and then the former key is believed no more."""
    claim(hub.token(name), tmp_path / "first", Wishes())
    before = hub.known()[name]
    with pytest.raises(HubError, match=f"expected names that are new, found enrolled {name}"):
        hub.token(name)
    claim(hub.token(name, replace=True), tmp_path / "second", Wishes())
    assert hub.known()[name] != before


def test_a_newer_token_of_a_name_is_the_only_one(hub: Hub, name: str, tmp_path: Path) -> None:
    """A token that was lost is made again, and then worth nothing to whoever found it."""
    lost, made = hub.token(name), hub.token(name)
    with pytest.raises(HubError, match="found none of this hub"):
        claim(lost, tmp_path / "finder", Wishes())
    claim(made, tmp_path / "b", Wishes())


def test_a_secret_is_told_to_the_hub_of_the_token_only(hub: Hub, name: str, tmp_path: Path) -> None:
    """Somebody else at the hub's address, with another authority, gets a request for it and nothing more."""
    token = hub.token(name)
    with serving(tmp_path) as other, closing(Relay(other.address)) as relay:
        with pytest.raises(SignatureError, match="somebody in between"):
            claim(token, tmp_path / "b", Wishes(), relay.address)
        assert relay.connections == 1, "the authority is asked for, nothing else"
        assert read_identity(tmp_path / "b") is None
        # with an address that lies and one that is right, the right one is found
        found = claim(replace(token, addresses=(other.address, *hub.at)), tmp_path / "b", Wishes())
        assert found.identity.name == name


def test_a_revoked_name_cannot_be_claimed_again(hub: Hub, name: str, tmp_path: Path) -> None:
    """Who was revoked stays out, though its token still holds."""
    token = hub.token(name)
    claim(token, tmp_path / "b", Wishes())
    with hub.service.home.ledger.transaction() as tx:
        put_device(tx, name, revoked=True)
    with pytest.raises(HubError, match=f"expected a name that is not revoked, found {name}, whose former certificate"):
        hub.token(name, replace=True)
    (tmp_path / "b" / "identity.json").unlink()
    with pytest.raises(HubError):
        claim(token, tmp_path / "b", Wishes())


def test_a_hub_that_is_away_is_no_refusal(hub: Hub, name: str, tmp_path: Path) -> None:
    """Nobody at the address is something that passes; keys stay for the next attempt, and the folder for one device."""
    token = hub.token(name)
    with pytest.raises(TransportError, match="expected an answer of the hub at 127.0.0.1:1, found none"):
        claim(token, tmp_path / "b", Wishes(), "127.0.0.1:1")
    key = (tmp_path / "b" / f"{name}.key").read_bytes()
    claim(token, tmp_path / "b", Wishes())
    assert (tmp_path / "b" / f"{name}.key").read_bytes() == key
    with pytest.raises(UsageError, match=f"expected no other device in .*, found {name} of farm"):
        claim(hub.token(hub.name()), tmp_path / "b", Wishes())


def test_what_a_person_wrote_stays(hub: Hub, name: str, tmp_path: Path) -> None:
    """Entries of an agent.toml that was there are kept; who the board is, is set."""
    (tmp_path / "b").mkdir()
    agent = 'name = "x"\nthreads = 2\nholdout = 0.25\ndata = "m\\u00fcll \\\\ \\"a\\".csv"'
    text = f'[agent]\n{agent}\n[claim]\ntoken_file = "t"\n'
    (tmp_path / "b" / "agent.toml").write_text(text)
    claim(hub.token(name), tmp_path / "b", Wishes())
    (tmp_path / "b" / "bundle").mkdir()
    (tmp_path / "b" / "bundle" / "manifest.json").touch()
    (tmp_path / "b" / 'müll \\ "a".csv').touch()
    config = read_config(tmp_path / "b" / "agent.toml")
    assert (config.name, config.threads, config.holdout) == (name, 2, 0.25)
    assert 'token_file = "t"' in (tmp_path / "b" / "agent.toml").read_text()


def test_every_request_is_checked(hub: Hub, name: str, tmp_path: Path) -> None:
    """What is no claim, or not signed by the key that it names, is refused with a sentence."""
    server = hub.server
    token, mine, other = hub.token(name), new_key("device", "a"), new_key("device", "b")
    request = request_for(name, tmp_path / "tls.key").decode()
    body = Claim("farm", name, token.secret.hex(), mine.public.line, request)
    wrong: list[tuple[object, int, str]] = [
        ([], 400, "expected a claim of version 1"),
        ({"v": 1, "body": "{", "sig": ""}, 400, "expected a claim as JSON"),
        ({"v": 1, "body": json.dumps({"type": "renewal"}), "sig": ""}, 400, "a request of another kind"),
        ({"v": 1, "body": json.dumps({"type": "claim"}), "sig": ""}, 400, "fleet: missing; name: missing"),
        (signed(other, body), 403, "expected a claim as a signed it, found other bytes"),
        (signed(mine, replace(body, key="x")), 403, "expected the public key of a device in a claim"),
        (signed(mine, replace(body, request="x")), 403, f"expected the signing request of {name}"),
    ]
    for asked, status, words in wrong:
        with pytest.raises(Refused, match=re.escape(words)) as refused:
            post_json(server, CLAIM_PATH, asked)
        assert refused.value.status == status
    assert hub.state(name) == "open"
    assert name not in hub.known()


def test_no_secret_is_logged(hub: Hub, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither side writes a token's secret to its log, claimed or refused."""
    caplog.set_level(logging.DEBUG)
    token = hub.token(name)
    claim(token, tmp_path / "b", Wishes())
    with pytest.raises(HubError):
        claim(token, tmp_path / "c", Wishes())
    assert token.secret.hex() not in caplog.text
    assert token.text not in caplog.text


@pytest.mark.heavy
def test_a_claim_survives_a_kill_at_every_step(hub: Hub, tmp_path: Path) -> None:
    """Killed before any step, a claim that is begun anew ends in one device with one pair of keys, and all files."""
    names = [hub.name() for _ in range(60)]
    tokens = tmp_path / "tokens"
    tokens.write_text("\n".join(hub.token(name).text for name in names))
    done = subprocess.run(
        [sys.executable, "-m", "tests.edge.identity.killed", str(tokens), str(tmp_path / "boards")],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    left = [json.loads(line) for line in done.stdout.splitlines()]
    assert 15 < len(left) < 60
    assert left[-1]["killed"] == 0
    assert all(found["killed"] == 9 for found in left[:-1])
    for found in left:
        assert found["again"] == 0
        assert found["files"] == left[-1]["files"]
        assert hub.known()[found["name"]] == found["key"]
    assert {found["whole"] for found in left} == {False, True}, "one was killed after all was written"
