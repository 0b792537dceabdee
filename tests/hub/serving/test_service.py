"""A hub and three honest devices on a network that loses, repeats and reorders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hub.making import versions
from hub.rounds.conductor import RESEND_S
from hub.serving.turns import SILENT_S
from hub.store import registry
from tests.fleet import Device
from tests.hub.bundles import FEATURES, LABELS, manifest, write_bundle
from tests.hub.world import RANKS, World
from wire import discriminant
from wire import messages as m
from wire.chunks import cut
from wire.envelope import seal
from wire.keys import new_key, write_key
from wire.kinds.head import gather
from wire.kinds.lora import Lora
from wire.topics import topic_of

MakeWorld = Callable[..., World]


def counted_once(world: World) -> None:
    """Every lap of a round counts an update per device and kind, and each of them has a receipt that its device got."""
    ledger = world.hub.home.ledger
    rows = [row for state in ledger.rounds() for row in ledger.updates(state.number)]
    assert len({(row["round"], row["lap"], row["device"], row["kind"]) for row in rows}) == len(rows)
    for row in rows:
        receipts = [r for r in world.devices[row["device"]].receipts if r.update == row["digest"]]
        assert {r.status for r in receipts} <= {"accepted", "duplicate"}
        assert receipts
    for device in world.devices.values():
        assert device.outbox == {}
        assert device.transport.errors == []  # type: ignore[attr-defined]  # it is the in-memory one


def test_a_fleet_learns_head_and_adapter(make_world: MakeWorld) -> None:
    """Statistics, training, statistics: a version with a head is released, and every device can fetch and judge it."""
    world = make_world()

    first, trained, last = world.run("statistics"), world.run("train"), world.run("statistics")
    judged = world.run("evaluate", settings={"split": "all"}, versions=["1", "3"])

    assert [r["state"] for r in (first, trained, last, judged)] == ["complete"] * 4
    assert (first["released"], trained["released"], last["released"]) == (True, False, True)
    assert last["gate"]["against"]["version"] == 1
    assert last["gate"]["judges"] == dict.fromkeys(RANKS, "arrived")
    assert [s["version"] for s in judged["scores"]["barn"]] == [1, 3]
    assert world.ask("status")["released"]["version"] == 3
    counted_once(world)


def test_the_published_version_is_the_formula(make_world: MakeWorld) -> None:
    """What devices fetch after a round of training is the weighted sum of what they sent, computed densely here."""
    world = make_world()
    world.run("statistics")
    home = world.hub.home
    sent = versions.read_made(home.ledger.versions()[-1]).version
    before = versions.read_ladder(sent, home.blobs)

    found = world.run("train")

    samples = {name: len(d.classes) for name, d in world.devices.items()}
    total = sum(samples.values())
    made = versions.read_made(home.ledger.versions()[-1]).version
    after = versions.read_ladder(made, home.blobs)
    for slot, start in before.items():
        whole = np.zeros((start.a.shape[0], start.b.shape[1]))
        for name, device in world.devices.items():
            whole += samples[name] / total * device.train(slot, start.prefix(RANKS[name])).product()
        for i in range(start.rank):
            share = sum(samples[n] for n, r in RANKS.items() if r > i) / total
            whole += (1 - share) * start.scale * np.outer(start.a[:, i], start.b[i])
        np.testing.assert_allclose(after[slot].product(), whole, atol=1e-6)
    assert made.head == sent.head
    assert found["tails"]["max"] < 1e-12


def test_the_published_head_is_that_of_the_pooled_rows(make_world: MakeWorld) -> None:
    """The head after a round of statistics is the closed form on all rows in one place."""
    world = make_world()
    found = world.run("statistics", recipe={"head": "lda"})
    assert "head by lda" in found["sentence"]

    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    heads = versions.read_heads(made, world.hub.home.blobs)

    everyone = world.devices.values()
    pooled = gather(
        np.concatenate([d.features for d in everyone]), np.concatenate([d.classes for d in everyone]), len(LABELS)
    )
    assert list(heads) == [0]  # no direction carries anything yet, so all prefixes are alike
    assert heads[0].weight.shape == (FEATURES, len(LABELS))
    np.testing.assert_allclose(heads[0].weight, discriminant.solve(pooled).weight, rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_bad_network_changes_nothing_but_the_time(make_world: MakeWorld, seed: int) -> None:
    """With a fifth of all deliveries lost, a fifth twice, half out of order and some corrupt, versions are the same."""
    calm, wild = make_world(), make_world(seed=seed, lose=0.2, repeat=0.2, reorder=0.5, corrupt=0.05)

    for kind in ("statistics", "train", "statistics"):
        assert calm.run(kind)["state"] == wild.run(kind, devices=sorted(RANKS))["state"] == "complete"

    digests = [[row["digest"] for row in w.hub.home.ledger.versions()] for w in (calm, wild)]
    assert digests[0] == digests[1]
    counted_once(wild)


def test_who_announces_is_asked_in_turn(make_world: MakeWorld) -> None:
    """With room for one update at a time the next board is asked when the one before has its receipt, not before."""
    world = make_world()
    world.run("statistics")
    world.hub.desks["tiny"].updates.turns.limit_bytes = 1
    for device in world.devices.values():
        device.announces = True
    before = len(world.network.history)

    found = world.run("train")

    assert found["state"] == "complete"
    counted_once(world)
    topics = [topic.split("/") for topic, _ in world.network.history[before:] if "/down/" in topic]
    told = [(kind, device) for *_, device, kind in topics if kind in ("missing", "receipt")]
    asked = dict.fromkeys(device for kind, device in told if kind == "missing")
    assert set(asked) == set(RANKS)
    assert told == [(kind, device) for device in asked for kind in ("missing", "receipt")]


def test_a_board_that_is_asked_and_silent_holds_nobody_up(make_world: MakeWorld) -> None:
    """A turn that is not taken ends, and the next one is given; who was silent may still come back."""
    world = make_world()
    world.run("statistics")
    world.hub.desks["tiny"].updates.turns.limit_bytes = 1
    barn, coop = world.devices["barn"], world.devices["coop"]
    barn.announces = coop.announces = True
    send, barn.send = barn.send, lambda update, indexes: None  # type: ignore[method-assign]  # it is asked in vain
    coop.jobs_held = True
    world.ask("open", kind="train", devices=["barn", "coop"])
    world.network.pump()
    coop.jobs_held = False
    coop.work()
    world.network.pump()
    assert coop.outbox

    world.now_s += SILENT_S
    world.hub.tick()
    world.network.pump()
    assert not coop.outbox

    barn.send = send  # type: ignore[method-assign]  # it is back
    world.settle()
    counted_once(world)
    assert [r["state"] for r in world.ask("list")["rounds"]] == ["complete", "complete"]


def test_a_forged_signature_is_ignored(make_world: MakeWorld) -> None:
    """An update signed by a key that is not the device's own changes nothing, and no receipt answers it."""
    world = make_world()
    barn = world.devices["barn"]
    barn.jobs_held = True
    world.ask("open", kind="train", devices=["barn"])
    world.network.pump()
    honest, barn.key, barn.jobs_held = barn.key, new_key("device", "barn"), False

    barn.work()
    world.network.pump()
    assert barn.outbox
    assert world.show(1)["answered"] == 0
    assert barn.receipts == []
    assert any("trusted device key" in why for why in world.ask("status")["ignored_because"])

    barn.key = honest
    world.settle()

    assert world.show(1)["state"] == "complete"


def test_a_device_speaks_for_itself_only(make_world: MakeWorld) -> None:
    """A message on another device's topic, or that names another device, is ignored."""
    world = make_world()
    barn, coop = world.devices["barn"], world.devices["coop"]
    world.ask("open", kind="train", devices=["barn"])
    failed = m.Failed(m.Sender("coop", "boot-1", 9), "r1-train-barn", "sabotage")
    for key, sender, topic in ((coop.key, "coop", "barn"), (barn.key, "coop", "barn"), (coop.key, "coop", "coop")):
        message = replace(failed, sender=replace(failed.sender, device=sender))
        world.network.route(topic_of("farm", "tiny", "up", "failed", topic), seal(key, m.encode(message)), retain=False)

    world.settle()

    assert world.show(1)["state"] == "complete"
    assert world.hub.guard.ignored == 2  # the third was signed well, but barn's job is not coop's


def test_a_stranger_is_ignored_and_named(make_world: MakeWorld) -> None:
    """A device that is not enrolled changes nothing; the status says how to enroll it."""
    world = make_world()
    stranger = world.make_device("hill", new_key("device", "hill"), 4, 0)
    stranger.start()
    world.network.pump()

    found = world.ask("status")

    assert "hill" not in [d["device"] for d in found["devices"]]
    assert "expected an enrolled device, found hill; enroll it with" in " ".join(found["ignored_because"])


def test_an_update_sent_again_counts_once(make_world: MakeWorld) -> None:
    """The same update a second time is answered as a duplicate and counts once; it may even come in a later round."""
    world = make_world()
    world.ask("open", kind="train", devices=["barn", "coop"])
    barn, coop = world.devices["barn"], world.devices["coop"]
    coop.jobs_held = True
    world.network.pump()
    assert world.show(1)["answered"] == 1
    update = barn.receipts[0].update
    assert [r.status for r in barn.receipts] == ["accepted"]

    barn.outbox[update] = barn.sent[update]
    barn.send(update, ())
    world.network.pump()
    coop.jobs_held = False
    world.settle()

    assert [r.status for r in barn.receipts] == ["accepted", "duplicate"]
    assert len(world.hub.home.ledger.updates(1)) == 2


def test_a_hub_that_starts_again_asks_only_for_what_it_lacks(make_world: MakeWorld) -> None:
    """Killed with half of an update, the hub names the rest as ranges, takes just that, and counts it once."""
    world = make_world()
    barn = world.devices["barn"]
    trained, told = barn.trained, list[m.Missing]()
    barn.trained = lambda job, base: replace(trained(job, base), metadata={"note": "long " * 2000})  # type: ignore[method-assign]  # so that there are several chunks
    barn.jobs_held = True
    world.ask("open", kind="train", devices=["barn"])
    world.network.pump()
    barn.jobs_held, say = False, barn.say
    cut_off = lambda message: None if isinstance(message, m.Commit) or odd(message) else say(message)  # noqa: E731
    barn.say = cut_off  # type: ignore[method-assign]  # a link that loses every other chunk, and then is cut
    barn.work()
    barn.say = say  # type: ignore[method-assign]  # as it was
    world.network.pump()
    (sent,) = barn.outbox.values()
    barn.on_missing = told.append  # type: ignore[method-assign, assignment]  # looks, and does not answer yet

    world.hub = world.start_hub()
    barn.retry()
    world.network.pump()

    (missing,) = told
    total = -(-len(sent.data) // 1024)
    assert total > 6
    assert missing.ranges == tuple((i, i) for i in range(1, total, 2))
    assert missing.indexes == tuple(range(1, total, 2))
    assert not missing.begin
    for piece in cut(sent.data, missing.indexes, 1024):
        barn.say(piece)
    world.settle()
    assert [r.status for r in barn.receipts] == ["accepted"]
    assert len(told) == 1
    assert list((world.folder / "partial").rglob("*.part")) == []


def odd(message: object) -> bool:
    """Whether it is a chunk with an odd index."""
    return isinstance(message, m.Chunk) and message.index % 2 == 1


def test_a_second_opinion_does_not_count(make_world: MakeWorld) -> None:
    """A different update for a job that has been answered is refused with words."""
    world = make_world()
    world.ask("open", kind="train", devices=["barn", "coop"])
    barn, coop = world.devices["barn"], world.devices["coop"]
    coop.jobs_held = True
    world.network.pump()
    barn.train = lambda slot, start: Lora(start.a + 1, start.b + 1, start.scale)
    barn.publish(barn.seen["r1-train-barn"])

    world.network.pump()

    assert barn.receipts[-1].status == "refused"
    assert "already counts another update of barn; drop this one" in barn.receipts[-1].reason
    assert len(world.hub.home.ledger.updates(1)) == 1


def test_a_wrong_base_is_refused_with_words(make_world: MakeWorld) -> None:
    """An update that started from another version than the round did is refused before its bytes are taken."""
    world = make_world()
    world.run("statistics")
    world.ask("open", kind="train", devices=["barn"])
    barn = world.devices["barn"]
    barn.jobs_held = True
    world.network.pump()
    old = world.hub.home.ledger.versions()[0]["digest"]
    barn.publish(replace(barn.seen["r2-train-barn"], versions=(old,)))

    world.network.pump()

    refused = barn.receipts[-1]
    assert refused.status == "refused"
    assert f"found one from {old[:12]}; drop it" in refused.reason
    assert barn.outbox == {}


def test_rubbish_is_refused_with_words(make_world: MakeWorld) -> None:
    """Bytes that are no adapter, well signed, are refused once whole; the same again has the same answer."""
    world = make_world()
    world.ask("open", kind="train", devices=["barn"])
    barn = world.devices["barn"]
    barn.corrupt = True

    world.settle(3)

    assert {r.status for r in barn.receipts} == {"refused"}
    assert "expected an edgequilt-adapter file" in barn.receipts[0].reason
    assert world.hub.home.ledger.updates(1) == []
    assert world.hub.desk().updates.inbox.kept == {}


def test_a_worse_version_is_not_rolled_out(make_world: MakeWorld) -> None:
    """After a head from mislabelled rows the gate refuses; what is in use stays, and work goes on from there."""
    world = make_world()
    world.run("statistics")
    world.run("train")
    for device in world.devices.values():
        device.mislabel = True

    refused = world.run("statistics")

    status = world.ask("status")
    assert (refused["state"], refused["released"]) == ("complete", False)
    assert refused["gate"]["candidate_macro_accuracy"] < refused["gate"]["parent_macro_accuracy"]
    assert "worse beyond the noise" in refused["sentence"]
    assert refused["sentence"].endswith("; the version in use stays in use")
    assert status["released"]["version"] == status["tip"]["version"] == 1
    retained = m.decode(_body(world, "version"), m.Version)
    assert retained.version == 1

    for device in world.devices.values():
        device.mislabel = False
    again = world.run("train")
    assert again["versions"][0]["version"] == 1
    assert again["version"]["version"] == 4


def _body(world: World, kind: str) -> bytes:
    """The body of what the broker keeps for late comers."""
    from wire.pack import unpack

    return bytes(unpack(world.network.retained[topic_of("farm", "tiny", "all", kind)], "a message")["body"])


def test_the_deadline_makes_do_with_a_quorum(make_world: MakeWorld) -> None:
    """A device that never answers is told so at the deadline; the version comes of the others."""
    world = make_world()
    mill = world.devices["mill"]
    mill.jobs_held = True
    number = world.ask("open", kind="train", deadline_s=30)["round"]

    world.settle()

    found = world.show(number)
    assert (found["state"], found["answered"]) == ("complete", 2)
    assert found["per_device"]["mill"] == {"state": "late", "reason": "the deadline passed"}
    assert mill.cancelled == ["r1-train-mill"]
    mill.publish(mill.seen["r1-train-mill"])
    world.network.pump()
    assert "round 1 no longer waits for r1-train-mill; drop it" in mill.receipts[-1].reason


def test_a_device_that_fails_says_why(make_world: MakeWorld) -> None:
    """Too many failures end the round at once, with the devices' own words."""
    world = make_world()
    for name in ("barn", "coop"):
        world.devices[name].excuse = f"{name} has no rows"

    found = world.run("train")

    assert found["state"] == "failed"
    assert "1 of 3 devices answered, 2 are needed (barn: barn has no rows; coop: coop has no rows)" in found["sentence"]


def test_a_lost_job_is_sent_again(make_world: MakeWorld) -> None:
    """A job that a device never got goes out again after a while, and at once when the device says hello."""
    world = make_world()
    barn, coop = world.devices["barn"], world.devices["coop"]
    for device in (barn, coop):
        device.transport.drop()  # type: ignore[attr-defined]  # the in-memory one can
        device.transport.queue.clear()  # type: ignore[attr-defined]  # the broker forgets what waits
    world.ask("open", kind="train", devices=["barn", "coop"])
    for device in (barn, coop):
        device.transport.queue.clear()  # type: ignore[attr-defined]  # the same

    barn.transport.restore()  # type: ignore[attr-defined]  # it says hello
    world.network.pump()
    assert world.show(1)["per_device"]["barn"]["state"] == "arrived"
    coop.transport.connected = True  # type: ignore[attr-defined]  # back without a word
    world.now_s += RESEND_S
    world.hub.tick()
    world.network.pump()

    assert world.show(1)["state"] == "complete"


def test_what_others_sent_is_nobodys_business(make_world: MakeWorld) -> None:
    """A device can fetch what a version names, and versions by their name, but no other device's update."""
    world = make_world()
    world.run("train")
    ledger, barn = world.hub.home.ledger, world.devices["barn"]
    secret = ledger.update_of(1, "mill", "adapter")
    assert secret is not None
    last = ledger.versions()[-1]
    before = len(world.network.history)

    for name in (secret["digest"], last["digest"]):
        barn.say(m.Fetch(barn.sender(), name))
        world.network.pump()

    down = topic_of("farm", "tiny", "down", "chunk", "barn")
    heard = [m.decode(payload, m.Chunk) for topic, payload in world.network.history[before:] if topic == down]
    assert [c.data for c in heard] == [last["body"]]


def test_one_round_that_makes_a_version_at_a_time(make_world: MakeWorld) -> None:
    """A second round of training while one is open is refused with words; an evaluation is not."""
    from console.errors import HubError

    world = make_world()
    world.run("statistics")
    for device in world.devices.values():
        device.jobs_held = True
    world.ask("open", kind="train")

    with pytest.raises(HubError, match="expected no open round that makes a version, found round 2; wait for it"):
        world.ask("open", kind="statistics")
    assert world.ask("open", kind="evaluate")["state"] == "collecting"
    assert world.ask("stop", round=2)["sentence"] == "stopped by hand"


def test_a_gone_device_is_seen(make_world: MakeWorld) -> None:
    """A last will marks a device as away; the will of an earlier start of its program does not."""
    world = make_world()
    barn = world.devices["barn"]

    def online() -> bool:
        world.network.pump()
        return bool(next(d["online"] for d in world.ask("status")["devices"] if d["device"] == "barn"))

    barn.say(m.Presence(m.Sender("barn", "boot-0", 0), "offline"))
    assert online()
    barn.say(m.Presence(m.Sender("barn", "boot-1", 0), "offline"))
    assert not online()
    barn.hello()
    assert online()


def test_release_by_hand_rolls_back(make_world: MakeWorld) -> None:
    """A person can go back to an older version; devices hear of it, and training goes on from there."""
    world = make_world()
    for kind in ("statistics", "train", "statistics"):
        world.run(kind)

    world.ask("rollback", version="1")
    world.network.pump()

    found = world.ask("status")
    assert (found["released"]["version"], found["tip"]["version"]) == (1, 1)
    assert all(d.release is not None and d.release.version == 1 for d in world.devices.values())


def test_devices_of_all_kinds(make_world: MakeWorld) -> None:
    """A device that cannot do a kind of job is not asked to."""
    world = make_world()
    server: Device = world.devices["mill"]
    server.jobs = ("evaluate",)
    server.hello()
    world.network.pump()

    assert set(world.run("statistics")["per_device"]) == {"barn", "coop"}
    assert set(world.run("evaluate")["per_device"]) == {"barn", "coop", "mill"}


def test_statistics_are_asked_at_the_ranks_of_the_fleet(make_world: MakeWorld) -> None:
    """While no direction carries anything all prefixes are alike and one head does; then each rank has its own."""
    world = make_world()
    first, _, last = world.run("statistics"), world.run("train"), world.run("statistics")

    assert first["settings"]["ranks"] == [0]
    assert last["settings"]["ranks"] == [4]  # that of the only bundle
    made = versions.read_made(world.hub.home.ledger.versions()[-1]).version
    assert list(versions.read_heads(made, world.hub.home.blobs)) == [4]


def test_a_device_may_come_before_the_bundle(tmp_path: Path) -> None:
    """A device that said hello to a hub without a model is online as soon as the first bundle is added."""
    publisher = new_key("publisher", "acme")
    _, public = write_key(publisher, tmp_path)
    registry.create(tmp_path / "hub", "farm", [public], "127.0.0.1:0")
    world = World(tmp_path, publisher)
    assert [d["online"] for d in world.ask("status")["devices"]] == [True] * 3

    world.ask("add", folder=str(write_bundle(tmp_path / "bundle", publisher, *manifest())))

    assert world.run("statistics")["state"] == "complete"


def test_a_fetch_cannot_ask_for_more_than_there_is(make_world: MakeWorld) -> None:
    """Indexes that repeat or do not exist cost the hub nothing: each chunk is sent once per fetch."""
    world = make_world()
    barn = world.devices["barn"]
    blob = next(iter(world.hub.home.ledger.versions()))["digest"]
    before = len(world.network.history)

    barn.say(m.Fetch(barn.sender(), blob, (0, 7, 0, 0) * 1000))
    world.network.pump()

    down = topic_of("farm", "tiny", "down", "chunk", "barn")
    assert [topic for topic, _ in world.network.history[before:]].count(down) == 1


def test_numbers_that_are_none_are_not_kept(make_world: MakeWorld) -> None:
    """Of an update's metrics the finite numbers and lists of them are kept; texts, bytes and infinities are not."""
    world = make_world()
    world.devices["barn"].metrics = {
        "loss": 0.5,
        "nan": float("nan"),
        "text": "x",
        "raw": b"y",
        "rows": 3,
        "each": [1, 0.5],
    }

    found = world.run("train", devices=["barn"])

    assert found["per_device"]["barn"]["metrics"] == {"loss": 0.5, "rows": 3, "each": [1, 0.5]}
