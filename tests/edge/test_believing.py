"""What the core takes from whom: messages that are not believed change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.edge.boards import NAME, Board, Farm, HereLink, jobs, make_board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from wire.keys import new_key
from wire.memory import Network
from wire.messages import Canary, Job, Receipt, Release, Version, encode
from wire.topics import topic_of


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board with a text bundle and 24 rows."""
    return make_board(tmp_path)


def forged_version(farm: Farm) -> None:
    """A version signed by a stranger."""
    version = farm.hub.publish_version(farm.board.manifest, 7, key=new_key("hub", "stranger"))
    farm.hub.release(version, 9, 7, key=new_key("hub", "stranger"))


def device_signed(farm: Farm) -> None:
    """A release signed by a device's key: another role."""
    farm.hub.release("7" * 64, 9, 7, key=farm.board.key)


def other_model(farm: Farm) -> None:
    """A release of another model on our topic."""
    farm.hub.say("all", Release.TYPE, encode(Release("other", 9, 7, "7" * 64)))


def garbage(farm: Farm) -> None:
    """Bytes that are nothing."""
    for kind in (Version.TYPE, Release.TYPE):
        farm.hub.transport.publish(topic_of(FLEET, MODEL, "all", kind), b"\xc1 nothing")


def lower_sequence(farm: Farm) -> None:
    """A replayed release."""
    farm.hub.release("7" * 64, 3, 7)


def trial_of_another(farm: Farm) -> None:
    """The trial of another device, replayed on our topic and on everybody's."""
    farm.hub.canary("7" * 64, 9, 7, "barn-2", topic=NAME)
    farm.hub.say("all", Release.TYPE, encode(Canary("barn-2", MODEL, 9, 7, "7" * 64)))


NOT_BELIEVED = (forged_version, device_signed, other_model, garbage, lower_sequence, trial_of_another)


@pytest.mark.parametrize("attack", NOT_BELIEVED, ids=lambda f: f.__name__)
def test_what_is_not_believed_changes_nothing(board: Board, attack: Any) -> None:
    """A stranger's signature, another role or model, garbage, a replay: the release stays, no version is kept."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    good = farm.hub.publish_version(board.manifest, 1)
    farm.hub.release(good, 5, 1)
    assert farm.run(lambda: core.store.released.served is not None)
    before = sorted(p.name for p in core.store.versions.iterdir())

    attack(farm)
    farm.run(seconds=5)

    assert core.store.released.served == core.store.released.seen == Release(MODEL, 5, 1, good)
    assert sorted(p.name for p in core.store.versions.iterdir()) == before
    assert farm.network.endpoints[NAME].errors == []


def test_a_trial_is_served_until_the_next_release(board: Board) -> None:
    """A canary serves the version of its trial, past a restart; the release of the old version takes it back."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    old, new = (farm.hub.publish_version(board.manifest, n) for n in (1, 2))

    def served() -> tuple[int, int] | None:
        found = core.store.released.served
        return None if found is None else (found.sequence, found.version)

    farm.hub.release(old, 5, 1)
    assert farm.run(lambda: served() == (5, 1))
    farm.hub.canary(new, 6, 2, NAME)
    assert farm.run(lambda: served() == (6, 2))
    assert farm.run(lambda: farm.hub.hellos[-1].released == 2)

    farm.hub.release(old, 5, 1)
    farm.kill()
    core = farm.start()
    farm.run(seconds=5)
    assert served() == (6, 2)

    farm.hub.release(old, 7, 1)
    assert farm.run(lambda: served() == (7, 1))


def test_a_job_for_somebody_else_is_not_done(board: Board) -> None:
    """A signed job that names another device is ignored on our topic."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest)
    other = Job("barn-2", "r1-train-barn-2", "train", 1, (version,))
    farm.hub.say("down", Job.TYPE, encode(other), NAME)
    farm.run(seconds=5)

    assert core.life.job is None
    assert core.status.jobs == {}


def test_other_labels_are_refused_by_name(board: Board) -> None:
    """A version over other classes than the bundle's is not trained on."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(replace(board.manifest, labels=("x", "y", "z")), 1)
    farm.hub.ask(jobs(version)[0])

    assert farm.run(lambda: not farm.hub.open)
    assert "expected the labels of the bundle (a, b, c)" in farm.hub.failed[f"r1-train-{NAME}"]


def test_a_changed_bundle_is_refused_while_the_agent_runs(board: Board) -> None:
    """A byte that flips on the card after the start ends the next job with words, and nothing is computed."""
    farm = Farm(board, Network(), HereLink())
    farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    path = board.folder / "bundle" / "segment1.backward.train.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    farm.hub.ask(jobs(version)[0])

    assert farm.run(lambda: not farm.hub.open)
    assert "segment1.backward.train.onnx has another SHA-256" in farm.hub.failed[f"r1-train-{NAME}"]


def test_a_receipt_of_a_stranger_does_not_empty_the_outbox(board: Board) -> None:
    """Only the hub's receipt lets an update go."""
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    name = farm.unanswered(board.manifest)
    forged = encode(Receipt(NAME, name, "accepted"))
    farm.hub.say("down", Receipt.TYPE, forged, NAME, key=new_key("hub", "stranger"))
    farm.run(seconds=3)

    assert list(core.outbox.updates) == [name]
