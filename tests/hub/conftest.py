"""A hub and three unequal devices on the in-memory network, with a clock that tests move; and where its ledger lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hub.config import FILE
from hub.store import registry
from hub.store.database import Database, file, server
from tests.hub.bundles import manifest, write_bundle
from tests.hub.world import World
from tests.programs import postgres
from wire.keys import new_key, write_key

if TYPE_CHECKING:
    from tests.postgres import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for all tests that need one."""
    programs = postgres()
    if not os.environ.get("EDGEQUILT_ALL_PROGRAMS"):  # where this is set, everything must run
        pytest.importorskip("psycopg")
    from tests.postgres import cluster as running

    with running(programs) as made:
        yield made


# those whose subject is the ledger, rounds and recovery run over every kind of database
OVER_BOTH = (
    *("ledger", "migrations", "service", "recovery", "following", "models", "rollout", "modes", "laps", "split"),
    *("sums", "collecting", "forgetting"),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that names `backend`, or a fixture that does, runs over each kind of database, where that is its subject.

    What runs long over a file runs long over a server: its variant there is left to the heavy suite.
    """
    subject = metafunc.module.__name__.rpartition("test_")[2]
    if "backend" not in metafunc.fixturenames or "backend" in _chosen(metafunc) or subject not in OVER_BOTH:
        return
    long = any(mark.args and "step" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))
    marks = [pytest.mark.postgresql, *([pytest.mark.heavy] if long or "network" in metafunc.function.__name__ else [])]
    metafunc.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=marks)], indirect=True)


def _chosen(metafunc: pytest.Metafunc) -> list[str]:
    """What a test parametrizes by itself."""
    return [name for mark in metafunc.definition.iter_markers("parametrize") for name in str(mark.args[0]).split(",")]


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database that a ledger is in."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def database(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Database:
    """A place for a ledger, with its tables where it is on a server."""
    if backend == "sqlite":
        return file(tmp_path / "ledger.sqlite")
    return server(prepared(request))


def prepared(request: pytest.FixtureRequest) -> str:
    """A database of the server, for the time of a test."""
    cluster: Cluster = request.getfixturevalue("cluster")
    request.addfinalizer(cluster.give_back)
    return cluster.prepared()


@pytest.fixture
def make_world(tmp_path: Path, backend: str, request: pytest.FixtureRequest) -> Callable[..., World]:
    """Make a hub folder with a bundle and devices; the keyword arguments go to the network."""
    made = 0

    def make(
        biases: dict[str, int] | None = None, scales: dict[str, tuple[int, ...]] | None = None, **network: float
    ) -> World:
        nonlocal made
        made += 1
        folder = tmp_path / f"world-{made}"
        publisher = new_key("publisher", "acme")
        _, public = write_key(publisher, folder)
        registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
        if backend == "postgresql":
            url = prepared(request)
            told = folder / "hub" / FILE
            told.write_text(told.read_text().replace("[database]\n", f'[database]\nurl = "{url}"\n'))
        bundle = write_bundle(folder / "bundle", publisher, *manifest(biases=biases, scales=scales))
        home = registry.open_home(folder / "hub")
        registry.add_bundle(home, bundle)
        home.ledger.close()
        return World(folder, publisher, **network)

    return make
