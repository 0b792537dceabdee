"""What an agent says of not being heard."""

from __future__ import annotations

import queue
import time
from pathlib import Path

from edge.doctor.service import judge_twins
from edge.hearing import OFTEN, TWINS, WITHIN_S, Hearing
from tests.edge.boards import Farm, HereLink, jobs, make_board, status
from tests.edge.bundles import MODEL
from tests.edge.hub import FLEET
from tests.hub.brokers.places import PlainMosquitto
from tests.wire.test_mqtt import ACCEPTED_5, FIVE, played
from wire.memory import Network
from wire.mqtt import MqttTransport
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
    assert hearing.record(0.0) == {"denied": {}, "hub_listens": True, "replaced": 0, "unsteady": False, "trouble": None}
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


def test_two_agents_of_one_name_are_seen_at_a_real_broker(tmp_path: Path) -> None:
    """They take the connection from each other again and again, and each sees that, whatever the broker says of it."""
    broker, hearing = PlainMosquitto(tmp_path), Hearing()
    changes: queue.SimpleQueue[bool] = queue.SimpleQueue()
    pair = [MqttTransport(broker.broker("barn"), "edgequilt-farm-barn") for _ in range(2)]
    try:
        pair[0].start(lambda topic, payload: None, changes.put)
        pair[1].start(lambda topic, payload: None, lambda up: None)
        begun = time.monotonic()
        while len(hearing.losses) < OFTEN:
            assert not hearing.record(0.0)["unsteady"]
            if not changes.get(timeout=60):
                hearing.lost(time.monotonic() - begun)
    finally:
        for one in pair:
            one.close()
        broker.close()

    told = hearing.record(time.monotonic() - begun)
    assert "another board has this one's name" in told["trouble"]
    assert judge_twins({**told, "device": "barn"}).level == "problem"
    assert hearing.record(WITHIN_S + 60)["trouble"] is None


def test_a_broker_that_says_that_our_place_was_taken_is_heard() -> None:
    """Reason code 0x8E of MQTT 5: after the second time it is a trouble, once it may have been somebody's trial."""
    hearing, fates = Hearing(), queue.SimpleQueue[Fate]()
    with played({FIVE: ACCEPTED_5 + bytes([0xE0, 2, 0x8E, 0])}) as (broker, _):
        transport = MqttTransport(broker, "edgequilt-farm-barn")
        transport.start(lambda topic, payload: None, lambda up: None, fates.put)
        for _ in range(TWINS):
            assert hearing.record(0.0)["trouble"] is None
            fate = fates.get(timeout=30)
            assert (fate.topic, fate.outcome) == ("", "replaced")
            assert hearing.matters(fate)
            assert hearing.learn(fate)
        transport.close()

    assert "two boards have one name" in hearing.record(0.0)["trouble"]
