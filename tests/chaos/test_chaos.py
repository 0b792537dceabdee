"""Stories of what goes wrong, told with real programs: nothing receipted is lost, nothing unreceipted is forgotten."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hub.store import registry
from tests.chaos.books import judge
from tests.chaos.conftest import MakeFarm
from tests.chaos.farm import NAMES, PATIENCE_S, Farm
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from wire import messages as m
from wire.envelope import seal
from wire.mqtt import KEEPALIVE_S, MqttTransport
from wire.topics import topic_of

pytestmark = pytest.mark.chaos


def story(request: pytest.FixtureRequest) -> str:
    """What the table calls it."""
    return str(request.node.name)


def test_the_broker_is_killed_in_a_round(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """Twice, at instants of a round that a seed draws: the round ends with every update."""
    farm = make_farm()
    for kind in ("statistics", "train"):
        number = farm.open(kind)
        farm.passes(0, 2)
        farm.restart_broker()
        farm.ends(number)
    assert judge(story(request), farm.books())["counted"] >= 6


def test_the_hub_is_killed_in_a_round(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """Three times, at instants of two rounds that a seed draws: the next hub goes on where the ledger stands."""
    farm = make_farm()
    for kind in ("statistics", "train"):
        number = farm.open(kind)
        for _ in range(2):
            farm.passes(0, 2)
            farm.hub.again()
        farm.ends(number)
    assert judge(story(request), farm.books())["counted"] >= 6


def test_agents_are_killed_in_a_round(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """Each of them, twice, with SIGKILL at instants of a round that a seed draws, and started again."""
    farm = make_farm()
    for kind in ("statistics", "train"):
        number = farm.open(kind)
        for name in farm.random.sample(NAMES, len(NAMES)):
            farm.passes(0, 1.5)
            farm.agents[name].again()
        farm.ends(number)
    assert judge(story(request), farm.books())["counted"] >= 6


def test_the_link_stands_still_for_longer_than_the_keep_alive(
    make_farm: MakeFarm, request: pytest.FixtureRequest
) -> None:
    """Nothing moves until the broker has given the agents up; they come back and send what has no receipt."""
    farm = make_farm()
    number = farm.open("statistics")
    farm.passes(0.5, 2.5)
    farm.link.stalled = True
    gone = time.monotonic() + 1.6 * KEEPALIVE_S
    farm.until(lambda: time.monotonic() > gone, "time to pass")
    farm.until(lambda: not any(d["online"] for d in farm.ask("status")["devices"]), "the broker to give them up")
    farm.link.cut = True  # what stood still is gone
    time.sleep(0.2)
    farm.link.stalled = farm.link.cut = False
    farm.ends(number)
    judge(story(request), farm.books())


def test_a_link_of_two_seconds_that_loses_a_third(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """With 2 s for each way there and back, and 30 % of the pieces lost, it takes long; that is all."""
    farm = make_farm()
    farm.link.delay_s, farm.link.loss = 1.0, 0.3
    number = farm.open("statistics")
    farm.ends(number)
    judge(story(request), farm.books())


def test_it_is_1970_on_the_boards(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """Agents whose clock begins with 1970, killed once, take part as the others do: no order comes from a clock."""
    farm = make_farm()
    for name in NAMES[:2]:
        farm.in_1970(name)
    number = farm.open("statistics")
    farm.passes(0, 2)
    farm.agents[NAMES[0]].again()
    farm.ends(number)
    judge(story(request), farm.books())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, which is gone afterwards."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave nothing free."""
    path = place / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_the_disk_of_an_agent_is_full(make_farm: MakeFarm, request: pytest.FixtureRequest, small_disk: Path) -> None:
    """It goes on as far as it can, also killed meanwhile; with room again it takes part in the next round."""
    farm = make_farm(states={NAMES[0]: small_disk / "state"})
    first = farm.open("statistics")
    farm.passes(0, 1.5)
    filling = fill(small_disk)
    farm.passes(2, 3)
    farm.agents[NAMES[0]].again()
    farm.passes(2, 3)
    filling.unlink()
    farm.ends(first)
    farm.ends(farm.open("train"))
    judge(story(request), farm.books())


def test_the_disk_of_the_hub_is_full(make_farm: MakeFarm, request: pytest.FixtureRequest, small_disk: Path) -> None:
    """No receipt is given for what is not on disk; with room again everything is, once."""
    farm = make_farm(hub=small_disk / "hub")
    farm.ends(farm.open("statistics"))
    number = farm.open("train")
    filling = fill(small_disk)
    farm.until(lambda: all(farm.waiting(name) for name in NAMES), "updates that wait")
    farm.passes(3, 4)
    assert all(farm.waiting(name) for name in NAMES)
    filling.unlink()
    farm.ends(number)
    judge(story(request), farm.books())


def test_a_hub_that_was_away_hears_1500_messages(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """As many as a board says while the hub is off wait at the broker, all of them; each is answered, none is lost."""
    farm, name, number = make_farm(), NAMES[0], 1500
    for program in (farm.agents[name], farm.hub):
        program.kill()
    board = MqttTransport(farm.way_in(name), "a-board-that-speaks")
    board.start(lambda topic, payload: None, lambda up: None)
    assert board.wait_connected(20)
    said = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(number)]
    where = topic_of(FLEET, MODEL, "up", "begin", name)
    for sequence, digest in enumerate(said):
        begin = m.Begin(m.Sender(name, "boot", sequence), digest, "adapter", f"r9-{sequence}", 9, "0" * 64, 5, 1)
        assert board.publish(where, seal(farm.keys[name], m.encode(begin)))
    farm.until(lambda: not board._client._out_messages, "the broker to have them")
    board.close()

    farm.hub.start()
    home = registry.open_home(farm.hub_folder, reading=True)
    try:
        farm.until(lambda: len(home.ledger.receipts(number + 9)) >= number, "an answer to each")
        assert {row["digest"] for row in home.ledger.receipts(number + 9)} == set(said)
    finally:
        home.ledger.close()
    farm.agents[name].start()
    farm.all_online()
    farm.ends(farm.open("statistics"))
    judge(story(request), farm.books())


def test_a_disk_that_forgets_sends_twice(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """An agent whose state goes back to before the receipt sends again; the hub counts it once and says duplicate."""
    farm, name = make_farm(), NAMES[0]
    assert farm.hub.process is not None
    with job_comes(farm, name):  # for statistics nothing is fetched: the hub is not needed any more
        number = farm.open("statistics")
    os.kill(farm.hub.process.pid, signal.SIGSTOP)
    try:
        farm.until(lambda: bool(farm.waiting(name)), "an update that waits")
        farm.agents[name].kill()
        shutil.copytree(farm.state(name), farm.folder / "before", ignore=shutil.ignore_patterns("*.sock"))
    finally:
        os.kill(farm.hub.process.pid, signal.SIGCONT)
    farm.agents[name].start()
    farm.ends(number)
    farm.agents[name].kill()
    shutil.rmtree(farm.state(name))
    shutil.copytree(farm.folder / "before", farm.state(name))
    farm.agents[name].start()
    farm.ends(number)
    assert judge(story(request), farm.books())["repeats"] >= 1


def test_everything_at_once(make_farm: MakeFarm, request: pytest.FixtureRequest) -> None:
    """Two rounds in which a seed draws, every second or so, who is killed or whether the link is cut."""
    farm = make_farm()
    deeds = {
        "broker": farm.restart_broker,
        "hub": farm.hub.again,
        "agent": lambda: kill_one(farm),
        "link": lambda: cut_for(farm, 1.0),
    }
    for kind in ("statistics", "train"):
        number = farm.open(kind)
        for deed in farm.random.choices(list(deeds), k=5):
            farm.passes(0.2, 1.5)
            deeds[deed]()
        farm.ends(number)
    assert judge(story(request), farm.books())["counted"] >= 6


@contextmanager
def job_comes(farm: Farm, name: str) -> Iterator[None]:
    """Go on when the broker has given this agent a job: whoever connects as the same device hears it, too."""
    heard = threading.Event()
    ear = MqttTransport(farm.way_in(name), "an-ear")
    ear.start(lambda topic, payload: heard.set(), lambda up: None)
    try:
        assert ear.wait_connected(20)
        ear.subscribe(topic_of(FLEET, MODEL, "down", "job", name))
        time.sleep(1.5)  # until the broker has the subscription; an answer to it is not part of the transport
        yield
        assert heard.wait(PATIENCE_S)
    finally:
        ear.close()


def kill_one(farm: Farm) -> None:
    """Whom the seed draws."""
    farm.agents[farm.random.choice(NAMES)].again()


def cut_for(farm: Farm, seconds: float) -> None:
    """No way for a while."""
    farm.link.cut = True
    time.sleep(seconds)
    farm.link.cut = False
