"""An agent's first start: the token is claimed before anything else, waited for, and gone afterwards."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.errors import HubError, StorageError, TransportError, UsageError
from edge.identity.ask_child import ask_child
from edge.identity.first import claim_first
from edge.identity.record import read_identity
from tests.hub.web.hubs import Hub, running
from tests.hub.web.places import listening


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One for all tests that take other names than the rest."""
    with running(tmp_path_factory.mktemp("first") / "hub") as made:
        yield made


def card(folder: Path, token: str) -> Path:
    """A board's folder as it is flashed; returns agent.toml."""
    folder.mkdir()
    (folder / "a.token").write_text(token)
    (folder / "agent.toml").write_text('[claim]\ntoken_file = "a.token"\n')
    return folder / "agent.toml"


def test_a_token_is_claimed_once_and_removed(hub: Hub, tmp_path: Path) -> None:
    """The first start claims; later ones, also with a token that was put back, find all done and remove it."""
    name = hub.name()
    config = card(tmp_path / "b", hub.token(name).text)
    link = tmp_path / "link"
    link.hardlink_to(config.parent / "a.token")

    claim_first(config, threading.Event())

    known = read_identity(config.parent)
    assert known is not None
    assert known.name == name
    assert not (config.parent / "a.token").exists()
    assert set(link.read_bytes()) == {0}, "what is left on the card is no token"
    assert "[broker]" in config.read_text()
    (config.parent / "a.token").write_text("whatever")
    claim_first(config, threading.Event())
    assert not (config.parent / "a.token").exists()
    assert read_identity(config.parent) == known


def test_a_refused_token_ends_the_start(hub: Hub, tmp_path: Path) -> None:
    """What the hub refuses is not tried again; the token stays for whoever looks into it."""
    token = hub.token(hub.name())
    claim_first(card(tmp_path / "first", token.text), threading.Event())

    config = card(tmp_path / "second", token.text)
    with pytest.raises(HubError, match="found that another board is"):
        claim_first(config, threading.Event())
    assert (config.parent / "a.token").exists()


def test_an_agent_that_waits_for_its_hub_ends_when_told(hub: Hub, tmp_path: Path) -> None:
    """While a hub takes the connection and says nothing, SIGTERM's event ends the waiting and the child."""
    silent, stop = listening(), threading.Event()
    token = hub.token(hub.name())
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    config = card(
        tmp_path / "b", type(token)((address,), token.fleet, token.name, token.secret, token.fingerprint).text
    )

    def accept() -> None:
        silent.accept()
        stop.set()

    threading.Thread(target=accept, daemon=True).start()
    claim_first(config, stop)
    silent.close()
    assert read_identity(config.parent) is None
    assert (config.parent / "a.token").exists()


def test_a_configuration_without_a_claim_is_left_alone(tmp_path: Path) -> None:
    """Nothing is asked of anybody; a table that says something else is an error."""
    config = tmp_path / "agent.toml"
    config.write_text("[agent]\n")
    claim_first(config, threading.Event())
    for wrong in ("[claim]\n", "[claim]\ntoken_file = 1\n", '[claim]\ntoken_file = "a"\nhub = "b"\n', "claim = 1\n"):
        config.write_text(wrong)
        with pytest.raises(UsageError, match=re.escape('expected token_file = "PATH" and nothing else under [claim]')):
            claim_first(config, threading.Event())


def test_a_child_says_what_went_wrong(tmp_path: Path) -> None:
    """Its errors arrive with their class and sentence, and one that dies without a word is one of transport."""
    with pytest.raises(StorageError, match="expected a claim token at .*none"):
        ask_child("claim", str(tmp_path / "none"), str(tmp_path))
    (tmp_path / "token").write_text("eqc1.x")
    with pytest.raises(UsageError, match="expected a claim token, one word"):
        ask_child("claim", str(tmp_path / "token"), str(tmp_path))
    with pytest.raises(TransportError, match="expected an answer of our own child"):
        ask_child("dance")
