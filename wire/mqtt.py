"""MQTT 5 over paho-mqtt, and 3.1.1 where a broker has no other: the one door to paho.

What paho 2.2 does not do for us, each of it measured: it reconnects without jitter (fleets come back in
lock-step), an exception in a callback kills its network thread while it still reports a connection, and a
publish while offline is both refused and delivered later. So this transport runs its own loop, wraps every
handler, and hands nothing to paho while the connection is down, nor leaves it anything to repeat: the outbox is the
caller's.

Of MQTT 5 it says explicitly what would otherwise be guessed: how long the broker keeps the session (left out, it ends
with the connection), that an earlier session goes on, how large a message and how many at once this side takes. It
reads the reason codes that 3.1.1 has no place for, and holds to the broker's own limits: mosquitto ends a connection
that has more in flight than it allows.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from wire.backoff import full_jitter
from wire.broker import Broker, Protocol, files_of, tls_of
from wire.tls import look_again
from wire.transport import Capabilities, Fate, OnConnection, OnFate, OnMessage, Will, ignore


@contextlib.contextmanager
def _without(name: str) -> Iterator[None]:
    """Have an import find an empty module of that name, unless it is loaded already."""
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = ModuleType(name)
    yield
    if absent:
        del sys.modules[name]


# paho asks urllib.request for proxies, and only when PySocks is there; with it come the standard library's HTTP and
# mail: 1.2 MiB, in every agent, of the 35 that its core may have
with _without("urllib.request"):
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
if getattr(paho, "socks", None) is not None:
    import urllib.request  # noqa: F401  # paho reaches it through its own name

log = logging.getLogger("edgequilt.mqtt")
KEEPALIVE_S = 30
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.2, 60.0
OK = MQTTErrorCode.MQTT_ERR_SUCCESS
IN_FLIGHT = 100
SESSION_S = 90 * 86400  # a broker keeps what waits for a client that is away
CHUNK_LIMIT_BYTES = 1 << 20  # of a message that this version can read
PACKET_LIMIT_BYTES = CHUNK_LIMIT_BYTES + (64 << 10)
NO_SUBSCRIBER, UNSUPPORTED_PROTOCOL, TAKEN_OVER = 0x10, 0x84, 0x8E  # MQTT 5.0, section 2.4
ANSWER_S = 10.0  # for the answer to a CONNECT
LIVES_S = 300.0  # the longest that the thread may take for one turn: a pause of 60 s, names and addresses that are slow
UNANSWERED = 2  # connections that end without an answer to MQTT 5, before the other one is tried


class MqttTransport:
    """A client with a stable name, a session that survives, full-jitter reconnects and a supervised loop.

    Args:
        broker: where to connect.
        client_id: the name.
        will: what is said when the connection is lost.
        protocol: of MQTT; `auto` is 5, or 3.1.1 from when the broker refuses that.
        session_s: how long the broker keeps what waits for this name; 0: it begins with nothing and leaves nothing.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        will: Will | None = None,
        protocol: Protocol = "auto",
        session_s: int = SESSION_S,
    ) -> None:
        self.broker, self._name, self._will = broker, client_id, will
        self._fixed, self._session_s = protocol != "auto", session_s
        self._speaks = "3.1.1" if protocol == "3.1.1" else "5"
        self.capabilities = Capabilities(self._speaks)
        self._unanswered, self._in_flight, self._renew = 0, IN_FLIGHT, False
        self._patterns: list[str] = []
        self._unwanted: list[str] = []
        self._limit_bytes = PACKET_LIMIT_BYTES
        self._on_their_way = _OnTheirWay()
        self._connected = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._turned_at = time.monotonic()
        self._on_message: OnMessage = lambda topic, payload: None
        self._on_connection: OnConnection = lambda up: None
        self._on_fate: OnFate = ignore
        self._context = tls_of(broker) if broker.tls else None
        self._client = self._make()

    def start(self, on_message: OnMessage, on_connection: OnConnection, on_fate: OnFate = ignore) -> None:
        """Start the network thread; it connects, and reconnects until `close`."""
        self._on_message, self._on_connection, self._on_fate = on_message, on_connection, on_fate
        self._thread = threading.Thread(target=self._supervise, name=f"mqtt-{self.broker.port}", daemon=True)
        self._thread.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Whether a connection stands within the time."""
        return self._connected.wait(timeout_s)

    def subscribe(self, pattern: str) -> None:
        """Subscribe now, and again after every reconnect."""
        if pattern in self._unwanted:
            self._unwanted.remove(pattern)
        if pattern not in self._patterns:
            self._patterns.append(pattern)
        if self._connected.is_set():
            self._client.subscribe(pattern, qos=1)

    def unsubscribe(self, pattern: str) -> None:
        """Unsubscribe now, and again after every reconnect: the broker may know it from an earlier session."""
        if pattern in self._patterns:
            self._patterns.remove(pattern)
        if pattern not in self._unwanted:
            self._unwanted.append(pattern)
        if self._connected.is_set():
            self._client.unsubscribe(pattern)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Hand a message to the broker; False while there is no connection, or if the broker takes none so large."""
        if not self._connected.is_set():
            return False
        if len(topic) + len(payload) + 64 > self._limit_bytes:
            words = f"it has {len(payload)} bytes, the broker takes packets of {self._limit_bytes}"
            self._guard(self._on_fate, Fate(topic, "denied", words))
            return False
        properties = _expiry(expiry_s) if expiry_s and self._speaks == "5" else None
        sent = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        if sent.rc != OK:
            return False
        if self._speaks == "5" and qos:
            self._tell(self._on_their_way.sent(sent.mid, topic))
        return True

    def lives(self) -> bool:
        """Whether the network thread still turns."""
        thread = self._thread
        return thread is not None and thread.is_alive() and time.monotonic() - self._turned_at < LIVES_S

    def close(self) -> None:
        """Say goodbye and stop the thread."""
        self._stop.set()
        self._client.disconnect()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _make(self) -> paho.Client:
        """A client of paho, which keeps to the protocol that it was made with."""
        five = self._speaks == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._name,
            clean_session=None if five else self._session_s == 0,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            reconnect_on_failure=False,  # else it asks for MQTT 3.1 by itself, from within its callback
        )
        client.max_inflight_messages_set(self._in_flight)
        if self._will is not None:
            will = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=self._will.delay_s) if five else None
            client.will_set(self._will.topic, self._will.payload, qos=1, properties=will)
        if self._context is not None:
            client.tls_set_context(self._context)
        if self.broker.username is not None:
            client.username_pw_set(self.broker.username, self.broker.password)
        client.on_connect, client.on_disconnect = self._connect, self._disconnect
        client.on_message, client.on_publish = self._message, self._published
        client.on_subscribe = self._subscribed
        # With no thread of its own, paho would write to the socket from whichever thread publishes, and two
        # writers interleave their bytes; this callback makes publishers only wake the loop.
        client.on_socket_register_write = lambda client, data, sock: None
        client.on_socket_open = lambda client, data, sock: _at_once(sock)
        return client

    def _dial(self) -> None:
        if self._speaks != "5":
            self._client.connect(self.broker.host, self.broker.port, keepalive=KEEPALIVE_S)
            return
        told = _properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=self._session_s,
            ReceiveMaximum=IN_FLIGHT,
            MaximumPacketSize=PACKET_LIMIT_BYTES,
        )
        self._client.connect(
            self.broker.host,
            self.broker.port,
            keepalive=KEEPALIVE_S,
            clean_start=self._session_s == 0,
            properties=told,
        )

    def _supervise(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            self._turned_at = time.monotonic()
            # What the last connection did not see through is the caller's to say again: a broker that ends the
            # connection over a message that it denies would be sent that message for ever, and nothing after it.
            self._client.drop_out_messages()
            self._on_their_way.clear()
            dialled = False
            try:
                self._look_again()
                self._dial()
                dialled = True
                patience = time.monotonic() + ANSWER_S
                while not (self._stop.is_set() or self._renew) and self._client.loop(timeout=0.5) == OK:
                    self._turned_at = time.monotonic()
                    attempt = 0 if self._connected.is_set() else attempt
                    if not self._connected.is_set() and time.monotonic() > patience:
                        break  # it took the connection and says nothing: amqtt, of properties that it does not know
            except Exception as error:  # noqa: BLE001  # whatever it was, a transport must come back
                log.info("no connection to %r: %s", self.broker, error)
            if dialled and not (self._connected.is_set() or self._renew):
                self._no_answer()
            self._down()
            if self._renew:
                self._begin_anew()
                continue
            attempt += 1
            self._stop.wait(full_jitter(attempt, BACKOFF_FIRST_S, BACKOFF_LAST_S))
        self._drain()

    def _look_again(self) -> None:
        """Use a certificate that was renewed since the last connection."""
        if self._context is None:
            return
        try:
            look_again(self._context, self.broker.ca, *files_of(self.broker))
        except OSError as error:
            log.warning("the certificates for %r cannot be read, the former ones are used: %s", self.broker, error)

    def _no_answer(self) -> None:
        """Some brokers of 3.1.1 end the connection where they should refuse it."""
        self._unanswered += 1
        if self._unanswered >= UNANSWERED and not self._fixed:
            self._speaks, self._unanswered = "3.1.1" if self._speaks == "5" else "5", 0
            self._client = self._make()

    def _begin_anew(self) -> None:
        """Another client of paho: neither its protocol nor how much it has in flight can be changed."""
        self._client.disconnect()
        self._drain()
        self._renew, self._unanswered = False, 0
        self._client = self._make()

    def _drain(self) -> None:
        deadline = time.monotonic() + 1
        with contextlib.suppress(Exception):
            while self._client.want_write() and time.monotonic() < deadline:
                self._client.loop(timeout=0.05)

    def _connect(
        self, client: paho.Client, data: object, flags: object, reason: Any, properties: Properties | None = None
    ) -> None:
        if reason.is_failure:
            if self._speaks == "5" and reason.value == UNSUPPORTED_PROTOCOL and not self._fixed:
                self._speaks, self._renew = "3.1.1", True  # for as long as this process lives
                return
            log.warning("broker %r refused the connection: %s", self.broker, reason)
            return
        self._unanswered = 0
        if not self._learn(properties):
            return
        for pattern in self._patterns:
            client.subscribe(pattern, qos=1)
        for pattern in self._unwanted:
            client.unsubscribe(pattern)
        self._connected.set()
        self._guard(self._on_connection, True)

    def _learn(self, told: Properties | None) -> bool:
        """What this broker can do, and its limits; False if they ask for another connection."""
        five = self._speaks == "5"
        shared = five and bool(getattr(told, "SharedSubscriptionAvailable", 1))
        self.capabilities = Capabilities(self._speaks, shared, five, five)
        self._limit_bytes = getattr(told, "MaximumPacketSize", 256 << 20)
        allowed = getattr(told, "ReceiveMaximum", IN_FLIGHT)
        self._renew = allowed < self._in_flight
        self._in_flight = min(self._in_flight, allowed)
        return not self._renew

    def _disconnect(self, client: paho.Client, data: object, flags: Any, reason: Any, *_: object) -> None:
        if getattr(flags, "is_disconnect_packet_from_server", False):
            log.warning("broker %r ended the connection: %s", self.broker, reason)
            if reason.value == TAKEN_OVER:
                self._tell(Fate("", "replaced", str(reason)))
        self._down()

    def _down(self) -> None:
        if self._connected.is_set():
            self._connected.clear()
            self._guard(self._on_connection, False)

    def _message(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        self._guard(self._on_message, message.topic, message.payload)

    def _published(self, client: paho.Client, data: object, mid: int, reason: Any, properties: object = None) -> None:
        if self._speaks == "5":
            outcome = "denied" if reason.is_failure else "unheard" if reason.value == NO_SUBSCRIBER else "taken"
            self._tell(self._on_their_way.answered(mid, outcome, str(reason)))

    def _subscribed(self, client: paho.Client, data: object, mid: int, reasons: Any, properties: object = None) -> None:
        if any(reason.is_failure for reason in reasons):
            log.warning("broker %r refuses a subscription (%s); look at its access list", self.broker, reasons[0])

    def _tell(self, fate: Fate | None) -> None:
        if fate is not None:
            self._guard(self._on_fate, fate)

    def _guard(self, handler: object, *arguments: object) -> None:
        try:
            handler(*arguments)  # type: ignore[operator]  # the handlers of `start`
        except Exception:
            log.exception("a handler failed; the connection goes on")


def _at_once(sock: Any) -> None:
    """Have small messages leave at once: else each waits up to 40 ms for the answer to the one before (RFC 896)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _OnTheirWay:
    """Topics of messages whose answer is not there yet, by packet id.

    An answer may be quicker than `publish` returns the id. The lock is never held while paho is called, which holds
    one of its own while it calls us.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[int, str] = {}
        self._early: dict[int, tuple[Any, str]] = {}

    def sent(self, mid: int, topic: str) -> Fate | None:
        """A message went; its fate, if that is known already."""
        with self._lock:
            early = self._early.pop(mid, None)
            if early is None:
                self._topics[mid] = topic
        return None if early is None else Fate(topic, *early)

    def answered(self, mid: int, outcome: Any, reason: str) -> Fate | None:
        """An answer came; the message's fate, if `sent` has told its topic."""
        with self._lock:
            topic = self._topics.pop(mid, None)
            if topic is None:
                self._early[mid] = (outcome, reason)
        return None if topic is None else Fate(topic, outcome, reason)

    def clear(self) -> None:
        """A new connection: what was on its way is nobody's any more."""
        with self._lock:
            self._topics.clear()
            self._early.clear()


def _properties(packet: int, **values: int) -> Properties:
    made = Properties(packet)  # type: ignore[no-untyped-call]  # paho leaves it without types
    for name, value in values.items():
        setattr(made, name, value)
    return made


@functools.lru_cache(maxsize=16)  # the table of topics has a handful; making one takes longer than a publish
def _expiry(seconds: int) -> Properties:
    return _properties(PacketTypes.PUBLISH, MessageExpiryInterval=seconds)
