"""hub.toml: what `init` writes is read back, and what is not known is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.errors import SignatureError, TransportError, UsageError
from hub.config import listen_address, outside_broker, publishers, read_config
from hub.store import registry
from wire.keys import new_key, write_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hub's folder as `init` makes it."""
    _, public = write_key(new_key("publisher", "acme"), tmp_path)
    registry.create(tmp_path / "hub", "farm", [public], "127.0.0.1:1999")
    return tmp_path / "hub"


def change(folder: Path, old: str, new: str) -> None:
    """Edit hub.toml as a person would."""
    text = (folder / "hub.toml").read_text()
    assert old in text
    (folder / "hub.toml").write_text(text.replace(old, new))


def test_init_writes_what_up_reads(folder: Path) -> None:
    """The file that `init` writes holds the defaults, each under a comment, and the publisher's key."""
    config = read_config(folder)

    assert (config.fleet, config.adapter.rank, config.adapter.scale) == ("farm", 16, 2.0)
    assert (config.rounds.quorum, config.rounds.deadline_s, config.rounds.gate_tolerance) == (0.5, 3600.0, 0.0)
    assert listen_address(config) == ("127.0.0.1", 1999)
    assert (config.broker.kind, config.broker.url) == ("amqtt", "")
    publishers(config, folder)  # raises if the key is not there
    assert (folder / "hub.key").stat().st_mode & 0o777 == 0o600


def test_init_replaces_nothing(folder: Path) -> None:
    """A folder that holds a hub is left as it is."""
    before = (folder / "hub.toml").read_bytes(), (folder / "hub.key").read_bytes()

    with pytest.raises(UsageError, match="expected no hub in .*, found one; start it with `edgequilt hub up"):
        registry.create(folder, "other", [], "127.0.0.1:1")
    assert ((folder / "hub.toml").read_bytes(), (folder / "hub.key").read_bytes()) == before


def test_init_half_done_is_nothing_done(tmp_path: Path) -> None:
    """If a publisher's file is no key, no hub is made."""
    (tmp_path / "acme.pub").write_text("not a key")

    with pytest.raises(SignatureError, match="expected the public key of a publisher"):
        registry.create(tmp_path / "hub", "farm", [tmp_path / "acme.pub"], "127.0.0.1:1")
    assert not (tmp_path / "hub").exists()


def test_a_broker_of_ones_own(folder: Path) -> None:
    """With a URL the embedded broker is not used; files are found beside hub.toml."""
    change(folder, '# url = "mqtts://broker.example:8883"', 'url = "mqtts://broker.example:8883"')
    change(folder, '# ca = "ca.pem"', 'ca = "ca.pem"')
    change(folder, '# password_file = "broker.password"', 'password_file = "broker.password"')
    change(folder, '# username = "hub"', 'username = "hub"')
    (folder / "broker.password").write_text("secret\n")

    config = read_config(folder)

    broker = outside_broker(config, folder, config.broker.url)

    assert (broker.host, broker.port, broker.tls, broker.ca) == ("broker.example", 8883, True, folder / "ca.pem")
    assert (broker.username, broker.password) == ("hub", "secret")
    assert "secret" not in repr(broker)


WRONG = {
    "an unknown key": ("rank = 16", "rank = 16\nrnak = 8", UsageError, "found adapter.rnak; mend or remove it"),
    "an unknown table": ("[trust]", "[turst]\na = 1\n[trust]", UsageError, "found turst; mend or remove it"),
    "a wrong type": ("rank = 16", 'rank = "16"', UsageError, "adapter.rank: expected int, found str"),
    "too large": ("quorum = 0.5", "quorum = 5", UsageError, "rounds.quorum: expected at most 1.0, found 5.0"),
    "no TOML": ("[adapter]", "[adapter", UsageError, "expected TOML in"),
    "no address": ('"127.0.0.1:1999"', '"bad host:1999"', UsageError, "expected broker.listen as HOST:PORT"),
    "no port": ("127.0.0.1:1999", "127.0.0.1", UsageError, "expected broker.listen as HOST:PORT"),
    "no broker": ('# url = "mqtts://broker.example:8883"', 'url = "http://x"', TransportError, "mqtt://host:1883"),
}


@pytest.mark.parametrize(("old", "new", "kind", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_with_words(
    folder: Path, old: str, new: str, kind: type[Exception], words: str
) -> None:
    """Every mistake in hub.toml is one sentence that names the place."""
    change(folder, old, new)

    def read() -> None:
        found = read_config(folder)
        listen_address(found)
        if found.broker.url:
            outside_broker(found, folder, found.broker.url)

    with pytest.raises(kind) as caught:
        read()
    assert words in str(caught.value)


def test_no_hub_is_said(tmp_path: Path) -> None:
    """A folder without a hub is named, with the command that makes one."""
    with pytest.raises(UsageError, match=r"expected a hub in .*, found no hub.toml; make one with `edgequilt hub init"):
        read_config(tmp_path)
