"""What an agent says of not being heard."""

from __future__ import annotations

from pathlib import Path

from edge.hearing import Hearing
from tests.edge.boards import Farm, HereLink, make_board
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from tests.edge.test_core import jobs, status
from wire.memory import Network
from wire.topics import hub_subscriptions
from wire.transport import Fate


def test_a_denial_is_told_with_what_to_do() -> None:
    """Denied messages are counted by type, and the sentence names the broker's words and its access list."""
    hearing = Hearing()
    assert hearing.learn(Fate("edgequilt/1/farm/m/up/barn/begin", "denied", "Not authorized"))
    assert hearing.learn(Fate("edgequilt/1/farm/m/up/barn/begin", "denied", "Not authorized"))

    found = hearing.record(0.0)
    assert found["denied"] == {"begin": 2}
    assert found["trouble"] == (
        "the broker denies begin (Not authorized): look at its access list, and whether it is enrolled"
    )


def test_that_nobody_listens_is_told_until_somebody_does() -> None:
    """A broker's "no matching subscribers" is no failure, but the hub is not there; the next other word ends it."""
    hearing = Hearing()
    assert hearing.learn(Fate("t/hello", "unheard"))
    assert not hearing.learn(Fate("t/hello", "unheard"))
    assert not hearing.record(0.0)["hub_listens"]
    assert "no hub listens" in hearing.record(0.0)["trouble"]
    assert hearing.matters(Fate("t/hello", "taken"))
    assert hearing.learn(Fate("t/hello", "taken"))
    assert hearing.record(0.0) == {"denied": {}, "hub_listens": True, "replaced": 0, "trouble": None}
    assert not hearing.matters(Fate("t/hello", "taken"))


def test_an_update_without_an_answer_is_told(tmp_path: Path) -> None:
    """Where the broker says nothing (3.1.1), an update that gets no answer is told; a receipt ends that."""
    board = make_board(tmp_path)
    farm = Farm(board, Network(), HereLink())
    core = farm.start()
    version = farm.hub.publish_version(board.manifest, 1)
    farm.hub.ask(jobs(version)[0])
    everything = hub_subscriptions(FLEET, MODEL)[0]
    farm.hub.transport.unsubscribe(everything)
    farm.hub.transport.subscribe(everything[:-1] + "fetch")
    assert farm.run(lambda: bool(core.hearing.unanswered) and max(core.hearing.unanswered.values())[0] >= 3)
    core.hearing.unheard = False  # as a broker of 3.1.1 leaves it
    core.write_status()
    trouble = status(board)["trouble"]
    assert trouble.startswith("sent ")
    assert "without an answer of the hub: does it run, is this device enrolled, and is the broker's access" in trouble

    farm.hub.transport.subscribe(everything)
    assert farm.run(lambda: not core.outbox.updates)
    core.write_status()
    assert status(board)["trouble"] is None


def test_an_agent_that_is_denied_says_so(tmp_path: Path) -> None:
    """An access list that leaves a device out is visible in its status, by type of message."""
    board = make_board(tmp_path)
    farm = Farm(board, Network(may_write=lambda name, topic: not topic.endswith("/hello")), HereLink())
    core = farm.start()
    farm.run(seconds=3)
    core.write_status()
    found = status(board)
    assert found["denied"].keys() == {"hello"}
    assert "access list" in found["trouble"]
    assert found["mqtt"] == "memory"
