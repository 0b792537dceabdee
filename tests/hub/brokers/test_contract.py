"""One contract for every transport: what the hub and the agents build on, and what each broker does beyond it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hub.brokers import foreign, mosquitto
from hub.brokers.ending import end_session
from hub.brokers.rules import rules
from tests.hub.brokers.places import DEVICES, FLEET, PLACES, Client, Memory, Place, TlsMosquitto
from wire.mqtt import MqttTransport
from wire.topics import device_subscriptions, hub_subscriptions, peer_subscription, topic_of
from wire.transport import Will

BARN, COOP = DEVICES


def promises(*what: str) -> pytest.MarkDecorator:
    """Hold a test to those places that promise all of this, or to all if nothing is named."""
    names = [name for name, place in PLACES.items() if set(what) <= place.can]
    return pytest.mark.parametrize("place", names, indirect=True)


everywhere = promises()
pytestmark = pytest.mark.fleet


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A broker, or the network in memory."""
    made = PLACES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def clients(place: Place) -> Iterator[dict[str, Client]]:
    """The hub and two devices, connected as they are in a fleet."""
    made = {name: Client(place, place.transport(name)) for name in ("hub", *DEVICES)}
    made["hub"].start(*hub_subscriptions(FLEET, "+"))
    for name in DEVICES:
        made[name].start(*device_subscriptions(FLEET, "m", name))
    yield made
    for client in made.values():
        client.transport.close()


def up(device: str, what: str = "hello") -> str:
    """Where a device speaks."""
    return topic_of(FLEET, "m", "up", what, device)


def down(device: str, what: str = "job") -> str:
    """Where the hub speaks to a device."""
    return topic_of(FLEET, "m", "down", what, device)


@everywhere
def test_what_is_said_is_heard_by_whom_it_is_for(clients: dict[str, Client]) -> None:
    """A device's message reaches the hub, the hub's reaches its device and no other, up to a megabyte of any bytes."""
    piece = bytes(range(256)) * 4096
    clients[BARN].say(up(BARN, "chunk"), piece)
    assert clients["hub"].hears(piece) == up(BARN, "chunk")

    clients["hub"].say(down(BARN), b"for barn")
    clients["hub"].say(down(COOP), b"for coop")

    assert clients[BARN].hears(b"for barn") == down(BARN)
    assert clients[COOP].hears(b"for coop") == down(COOP)
    assert clients[BARN].told.empty()


@everywhere
def test_what_is_retained_reaches_who_comes_later(place: Place, clients: dict[str, Client]) -> None:
    """The newest retained message of a topic is told to a device that subscribes afterwards."""
    topic = topic_of(FLEET, "m", "all", "version")
    clients["hub"].say(topic, b"old", retain=True)
    clients["hub"].say(topic, b"new", retain=True)
    assert clients[BARN].hears(b"new") == topic
    clients[COOP].transport.close()

    late = Client(place, place.transport(COOP)).start(*device_subscriptions(FLEET, "m", COOP))

    assert late.hears(b"new") == topic
    late.transport.close()


@promises("absent")
def test_who_was_away_hears_what_was_said_meanwhile(place: Place, clients: dict[str, Client]) -> None:
    """A device that vanished and comes back under its name gets what was said to it with QoS 1."""
    place.cut(clients[BARN].transport)
    for number in range(20):
        clients["hub"].say(down(BARN), b"meanwhile %d" % number)

    if isinstance(place, Memory):
        back = clients[BARN]
        back.transport.restore()  # type: ignore[attr-defined]  # of the transport in memory
    else:
        back = Client(place, place.transport(BARN)).start(*device_subscriptions(FLEET, "m", BARN))

    for number in range(20):
        assert back.hears(b"meanwhile %d" % number) == down(BARN)
    back.transport.close()


@promises("broker")
def test_a_broker_that_comes_back_serves_the_clients_that_it_had(place: Place, clients: dict[str, Client]) -> None:
    """After a restart of the broker clients connect and subscribe again by themselves, and messages pass both ways."""
    place.restart()
    for client in clients.values():
        client.wait(lambda c=client: c.ups[-1] and c.ups.count(True) > 1, "another connection")  # type: ignore[misc]  # bound on purpose

    clients[BARN].say(up(BARN), b"again")
    assert clients["hub"].hears(b"again") == up(BARN)
    clients["hub"].say(down(BARN), b"answer")
    assert clients[BARN].hears(b"answer") == down(BARN)


@promises("lasts")
def test_what_is_retained_outlives_the_broker(place: Place, clients: dict[str, Client]) -> None:
    """A broker that promises to last still knows a retained message after its restart."""
    topic = topic_of(FLEET, "m", "all", "release")
    clients["hub"].say(topic, b"kept", retain=True)
    clients[BARN].hears(b"kept")
    clients["hub"].transport.close()
    clients[COOP].transport.close()
    place.restart()

    late = Client(place, place.transport(COOP)).start(*device_subscriptions(FLEET, "m", COOP))

    assert late.hears(b"kept") == topic
    late.transport.close()


@everywhere
def test_nothing_is_taken_while_there_is_no_connection(place: Place, clients: dict[str, Client]) -> None:
    """`publish` says False where a message was certainly not sent: it stays in the caller's outbox."""
    transport = clients[BARN].transport
    place.cut(transport)
    clients[BARN].wait(lambda: clients[BARN].ups[-1] is False, "to be told of the loss")

    assert transport.publish(up(BARN), b"lost") is False


@promises("broker")
def test_small_messages_leave_at_once(clients: dict[str, Client]) -> None:
    """A client's socket does not hold a message back until the one before is answered; what runs mosquitto says so."""
    for client in clients.values():
        assert isinstance(client.transport, MqttTransport)
        sock = client.transport._client.socket()
        assert sock is not None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0  # type: ignore[attr-defined]  # a socket

    for text in (mosquitto.configuration("127.0.0.1", 1, Path("x"), "nobody"), foreign.mosquitto(FLEET)):
        assert "set_tcp_nodelay true" in text.splitlines()


@everywhere
def test_a_last_will_is_read_out(place: Place, clients: dict[str, Client]) -> None:
    """When a client vanishes without a goodbye the others hear what it had left to be said."""
    clients[COOP].transport.close()
    mortal = Client(place, place.transport(COOP, Will(up(COOP, "presence"), b"gone")))
    mortal.start(*device_subscriptions(FLEET, "m", COOP))

    place.cut(mortal.transport)

    assert clients["hub"].hears(b"gone") == up(COOP, "presence")


@everywhere
def test_a_handler_that_fails_ends_nothing(place: Place, clients: dict[str, Client]) -> None:
    """After an exception in a handler the next message is delivered as if nothing had been."""
    clients[COOP].transport.close()
    fragile = Client(place, place.transport(COOP))
    heard: list[bytes] = []

    def take(topic: str, payload: bytes) -> None:
        heard.append(payload)
        if payload == b"first":
            raise RuntimeError("on purpose")

    def fail(what: object) -> None:
        fragile.ups.append(True)
        raise RuntimeError(f"on purpose, of {what}")

    for pattern in device_subscriptions(FLEET, "m", COOP):
        fragile.transport.subscribe(pattern)
    fragile.transport.start(take, fail, fail)
    fragile.wait(lambda: fragile.ups, "a connection")
    fragile.say(up(COOP), b"whose fate is told")
    clients["hub"].hears(b"whose fate is told")
    clients["hub"].say(down(COOP), b"first")
    clients["hub"].say(down(COOP), b"second")

    fragile.wait(lambda: b"second" in heard, "the second message")
    fragile.transport.close()


@everywhere
def test_a_connection_knows_what_it_can_do(place: Place, clients: dict[str, Client]) -> None:
    """Once it stands it says whether it has what MQTT 5 adds: by what its broker speaks, not by its class."""
    for client in clients.values():
        can, five = client.transport.capabilities, "five" in place.can
        assert (can.shared_subscriptions, can.message_expiry, can.denied_publish_seen) == (five, five, five)
        assert can.protocol == ("memory" if isinstance(place, Memory) else "5" if five else "3.1.1")


@promises("five")
def test_who_says_something_is_told_whether_anybody_listens(place: Place, clients: dict[str, Client]) -> None:
    """A message is taken, also where nobody listens, and then that is said."""
    clients[BARN].say(up(BARN), b"to the hub")
    clients["hub"].say(down("stranger"), b"to nobody")

    clients[BARN].learns(up(BARN), "taken")
    clients["hub"].learns(down("stranger"), "unheard")


@promises("five", "list")
def test_a_denied_publish_is_seen(place: TlsMosquitto, clients: dict[str, Client]) -> None:
    """Who may not say something is told so by the broker, and what it may say it still can."""
    clients[BARN].say(up(COOP), b"forged")
    clients[BARN].say(up(BARN), b"true")

    assert clients[BARN].learns(up(COOP), "denied").reason == "Not authorized"
    clients[BARN].learns(up(BARN), "taken")
    clients["hub"].hears(b"true")
    assert clients[BARN].ups == [True]  # the connection stands: mosquitto may end it, if its limits are set so


@promises("list")
def test_a_denial_that_is_not_seen_does_no_harm(place: TlsMosquitto, clients: dict[str, Client]) -> None:
    """Under 3.1.1 the broker says nothing of a denial; the connection stands, and what is allowed arrives."""
    clients[BARN].transport.close()
    old = Client(place, MqttTransport(place.broker(BARN), BARN, protocol="3.1.1")).start()
    old.say(up(COOP), b"forged")
    old.say(up(BARN), b"true")

    clients["hub"].hears(b"true")
    assert (old.ups, old.fates, old.transport.capabilities.denied_publish_seen) == ([True], [], False)
    old.transport.close()


@promises("five")
def test_what_is_too_old_is_not_delivered(place: Place, clients: dict[str, Client]) -> None:
    """Of what waited for a device, that whose time is over is left out; what has no such time comes."""
    place.cut(clients[BARN].transport)
    topic = down(BARN)
    clients["hub"].wait(lambda: clients["hub"].transport.publish(topic, b"stale", expiry_s=1), "to publish")
    clients["hub"].wait(lambda: clients["hub"].transport.publish(topic, b"fresh", expiry_s=3600), "to publish")
    clients["hub"].say(topic, b"eternal")
    place.pass_time(2.1)

    if isinstance(place, Memory):
        back = clients[BARN]
        back.transport.restore()  # type: ignore[attr-defined]  # of the transport in memory
    else:
        back = Client(place, place.transport(BARN)).start(*device_subscriptions(FLEET, "m", BARN))

    assert {payload for _, payload in back.hears_all(b"eternal")} == {b"fresh", b"eternal"}
    back.transport.close()


@promises("five")
def test_a_shared_subscription_shares(place: Place, clients: dict[str, Client]) -> None:
    """Of several that share a subscription each message reaches one, and whoever is left gets all the rest."""
    workers = [Client(place, place.transport(name, lasting=False)) for name in ("hub-1", "hub-2")]
    for worker in workers:
        worker.start(f"$share/hub/edgequilt/1/{FLEET}/+/up/+/chunk")
    for number in range(20):
        clients[BARN].say(up(BARN, "chunk"), b"%d" % number)
    everything = lambda: sum(worker.told.qsize() for worker in workers) >= 20  # noqa: E731  # said once
    clients["hub"].wait(everything, "all of them")
    shares = [sorted(payload for _, payload in worker.told.queue) for worker in workers]
    assert all(shares)
    assert sorted(shares[0] + shares[1]) == sorted(b"%d" % number for number in range(20))

    workers[0].transport.close()
    for number in range(20, 24):
        clients[BARN].say(up(BARN, "chunk"), b"%d" % number)
        workers[1].hears(b"%d" % number)
    workers[1].transport.close()


@everywhere
def test_who_unsubscribes_hears_no_more_of_it(place: Place, clients: dict[str, Client]) -> None:
    """Nor does a later connection of the same name, while what else it asked for still comes."""
    hub = clients["hub"]
    hub.transport.unsubscribe(hub_subscriptions(FLEET, "+")[0])
    hub.transport.subscribe(f"edgequilt/1/{FLEET}/+/up/+/hello")
    hub.wait(lambda: _unheard(clients), "to be left alone")

    clients[BARN].say(up(BARN), b"still")
    assert hub.hears(b"still") == up(BARN)


def _unheard(clients: dict[str, Client]) -> bool:
    """Whether of two messages only the hello comes."""
    hub = clients["hub"]
    clients[BARN].say(up(BARN, "chunk"), b"a piece")
    clients[BARN].say(up(BARN), b"after it")
    return b"a piece" not in [payload for _, payload in hub.hears_all(b"after it")]


@promises("delays")
def test_a_blip_is_no_departure(place: Place, clients: dict[str, Client]) -> None:
    """A last will that waits is not read out when its client is back in time."""
    clients[COOP].transport.close()
    will = Will(up(COOP, "presence"), b"gone", delay_s=2)
    mortal = Client(place, place.transport(COOP, will)).start()

    place.cut(mortal.transport)
    back = Client(place, place.transport(COOP)).start()
    place.pass_time(2.5)

    back.say(up(COOP), b"here")
    clients["hub"].hears(b"here")
    assert b"gone" not in [payload for _, payload in clients["hub"].told.queue]
    back.transport.close()


@promises("list")
def test_a_device_can_neither_speak_nor_listen_for_another(place: Place, clients: dict[str, Client]) -> None:
    """With an access list, what one device says in another's name, or as the hub, reaches nobody; nor can it listen."""
    clients[BARN].transport.subscribe(f"edgequilt/1/{FLEET}/m/down/{COOP}/+")
    clients[BARN].transport.subscribe(f"edgequilt/1/{FLEET}/m/up/+/+")
    clients[BARN].say(up(COOP), b"forged")
    clients[BARN].say(down(COOP), b"forged")
    clients[BARN].say(topic_of(FLEET, "m", "all", "release"), b"forged", retain=True)

    clients["hub"].say(down(COOP), b"secret")
    clients[COOP].say(up(COOP), b"true")

    assert clients[COOP].hears(b"secret") == down(COOP)
    clients["hub"].hears(b"true")
    clients[BARN].say(up(BARN), b"still here")
    clients["hub"].hears(b"still here")
    everything = [payload for client in clients.values() for _, payload in client.told.queue]
    assert b"forged" not in everything
    assert b"secret" not in [payload for _, payload in clients[BARN].told.queue]


@everywhere
def test_a_device_speaks_to_another(clients: dict[str, Client]) -> None:
    """What a device says to another one, up to 512 KiB of any bytes, comes to that one and to no third."""
    clients[COOP].transport.subscribe(peer_subscription(FLEET, "m", COOP))
    part, topic = bytes(range(256)) * 2048, topic_of(FLEET, "m", "peer", "crossing", BARN, COOP)
    clients[COOP].wait(lambda: clients[BARN].transport.publish(topic, b"first"), "to publish")
    clients[COOP].wait(lambda: _heard_or_say(clients, topic), "the subscription to stand")
    clients[BARN].say(topic, part)

    assert clients[COOP].hears(part) == topic
    assert clients["hub"].told.empty()


def _heard_or_say(clients: dict[str, Client], topic: str) -> bool:
    """Whether the other device hears; a subscription takes a moment."""
    clients[BARN].transport.publish(topic, b"again")
    return not clients[COOP].told.empty()


@promises("list")
def test_a_device_can_be_no_other_to_its_peers(clients: dict[str, Client]) -> None:
    """With an access list, nobody speaks to a device in the name of another, nor hears what is said to another."""
    to_coop = topic_of(FLEET, "m", "peer", "peer", BARN, COOP)
    clients[COOP].transport.subscribe(peer_subscription(FLEET, "m", COOP))
    clients[BARN].transport.subscribe(peer_subscription(FLEET, "m", COOP))
    clients[BARN].transport.subscribe(f"edgequilt/1/{FLEET}/m/peer/#")
    clients[COOP].wait(lambda: _heard_or_say(clients, to_coop), "the subscription to stand")
    clients[BARN].say(topic_of(FLEET, "m", "peer", "peer", COOP, BARN), b"forged")
    clients[BARN].say(topic_of(FLEET, "m", "peer", "peer", "stranger", COOP), b"forged")
    clients[BARN].say(to_coop, b"true")
    clients["hub"].say(down(BARN), b"after it")

    assert clients[COOP].hears(b"true") == to_coop
    assert [payload for _, payload in clients[BARN].hears_all(b"after it")] == [b"after it"]
    assert b"forged" not in [payload for _, payload in clients[COOP].told.queue]


@promises("list")
def test_who_is_not_enrolled_is_heard_by_nobody(place: TlsMosquitto, clients: dict[str, Client]) -> None:
    """A certificate of the fleet is not enough: who is not, or no longer, in the list can neither speak nor listen."""
    stranger = Client(place, place.transport("stranger")).start("#")
    stranger.say(up("stranger"), b"strange")
    place.child.allow(rules(FLEET, [COOP]))
    clients[COOP].wait(lambda: _silent(clients, BARN), "the list to be read")
    clients["hub"].say(down(COOP), b"on")

    assert clients[COOP].hears(b"on") == down(COOP)
    assert stranger.told.empty()
    assert b"strange" not in [payload for _, payload in clients["hub"].told.queue]
    stranger.transport.close()


@promises("list")
def test_a_revoked_device_is_cut_off(place: TlsMosquitto, clients: dict[str, Client]) -> None:
    """Its connection ends; it comes back, and yet neither says nor hears anything, not even what waited for it."""
    board = Client(place, MqttTransport(place.broker(BARN), f"edgequilt-{FLEET}-{BARN}")).start(down(BARN))
    place.child.allow(rules(FLEET, [COOP]))
    clients[COOP].wait(lambda: _silent(clients, BARN), "the list to be read")
    end_session(place.broker("hub"), FLEET, BARN).join(20)

    board.wait(lambda: False in board.ups, "the connection to end")
    board.wait(lambda: board.ups[-1], "the device to come back")
    clients["hub"].say(down(BARN), b"secret")
    board.say(up(BARN), b"still me")
    assert _silent(clients, BARN)
    assert board.told.empty()
    assert b"still me" not in [payload for _, payload in clients["hub"].told.queue]
    board.transport.close()


def _silent(clients: dict[str, Client], device: str) -> bool:
    """Whether what a device says now no longer arrives; another device's message comes after it."""
    hub = clients["hub"]
    while not hub.told.empty():
        hub.told.get()
    clients[device].transport.publish(up(device), b"probe")
    clients[COOP].say(up(COOP), b"after")
    hub.hears(b"after")
    return b"probe" not in [payload for _, payload in hub.told.queue]


@promises("list")
def test_nobody_comes_in_without_a_certificate_of_the_fleet(place: TlsMosquitto, tmp_path: Path) -> None:
    """Neither plain, nor without a certificate, nor with one of another authority does a connection stand."""
    other = TlsMosquitto(_folder(tmp_path / "other"))
    good, foreign = place.broker(BARN), other.broker(BARN)
    attempts = {
        "plain": replace(good, tls=False, ca=None, certificate=None, key=None),
        "without": replace(good, certificate=None, key=None),
        "foreign": replace(good, certificate=foreign.certificate, key=foreign.key),
        "a forged broker": replace(good, ca=foreign.ca),
    }
    for name, broker in attempts.items():
        transport = MqttTransport(broker, f"try-{name}")
        transport.start(lambda topic, payload: None, lambda up: None)
        assert not transport.wait_connected(1.5), name
        transport.close()
    other.close()


@promises("list")
def test_a_broker_is_believed_by_its_name(place: TlsMosquitto) -> None:
    """A certificate of the fleet for another host does not make a broker."""
    context = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    context.load_cert_chain(place.folder / f"{BARN}.pem", place.folder / f"{BARN}.tls.key")
    with (
        socket.create_connection(("127.0.0.1", place.child.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="mismatch"),
    ):
        context.wrap_socket(plain, server_hostname="elsewhere.example")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
