from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from console.errors import HubError
from edge.config import read_config
from hub.store import registry
from sim.fleet import Fleet, closing_home, free_port
from sim.processes import Processes
from tests.edge.boards import write_data
from tests.edge.bundles import make_bundle
from tests.hub.bundles import manifest
from tests.hub.bundles import write_bundle as write_other_bundle
from wire.keys import read_private_key, write_key

ODD = 'it\'s "odd" \\ näme'  # every character that a careless configuration file trips over


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet whose hub does not run, in a folder with an odd name; a bundle and rows lie beside it."""
    folder = tmp_path / ODD
    _, public = write_key(make_bundle(folder / "bundle", kind="text"), folder)
    write_data(folder / "data.jsonl")
    made = Fleet(folder / "fleet", public, Processes(folder / "logs"))
    made.prepare()
    return made


def test_a_device_is_told_all_that_its_agent_needs(fleet: Fleet) -> None:
    """The configuration can be read whatever the folder is called, and names what is there; the hub knows the key."""
    folder = fleet.folder.parent
    config = read_config(fleet.join("barn", folder / "bundle", folder / "data.jsonl", 0.25))

    assert (config.name, config.fleet, config.holdout) == ("barn", "demo", 0.25)
    assert (config.bundle, config.data) == ((folder / "bundle").resolve(), (folder / "data.jsonl").resolve())
    assert config.state == fleet.state("barn").resolve()
    assert config.broker.url == f"mqtt://127.0.0.1:{fleet.port}"
    with closing_home(fleet.hub) as home:
        (enrolled,) = home.ledger.devices()
        assert (enrolled["name"], enrolled["key"]) == ("barn", read_private_key(config.device_key).public.line)
        assert home.config.broker.listen == f"127.0.0.1:{fleet.port}"
        assert len(home.ledger.bundles()) == 1


def test_bundles_that_promise_other_shapes_make_no_fleet(fleet: Fleet, tmp_path: Path) -> None:
    """A device with a bundle of the model with other labels is refused, and is not enrolled."""
    folder = fleet.folder.parent
    fleet.join("barn", folder / "bundle", folder / "data.jsonl", 0.0)
    key = read_private_key(fleet.publisher.with_suffix(".key"))
    other = write_other_bundle(tmp_path / "other", key, *manifest(labels=("a", "b")))
    with pytest.raises(HubError, match="of the model tiny that this hub serves, found"):
        fleet.join("coop", other, folder / "data.jsonl", 0.0)
    with closing_home(fleet.hub) as home:
        assert [device["name"] for device in home.ledger.devices()] == ["barn"]


def test_a_hub_that_does_not_run_is_said(fleet: Fleet) -> None:
    """A round of a fleet whose hub is not there ends with what to do about it."""
    with pytest.raises(HubError, match="found none; start it with `edgequilt hub up"):
        fleet.round("statistics", ["barn"], "statistics")


def test_a_port_is_free() -> None:
    """What is called free can be bound."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", free_port()))
        assert found.getsockname()[0] == "127.0.0.1"


def test_a_home_is_closed_again(fleet: Fleet) -> None:
    """Two may look into a hub's folder one after the other."""
    for _ in range(2):
        with closing_home(fleet.hub) as home:
            assert registry.models(home) == {}
