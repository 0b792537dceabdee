"""The hub as a process: broker, transport, local socket and server agent around the loop that owns the service."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from console.errors import TransportError, UsageError
from hub import show
from hub.broker import EmbeddedBroker
from hub.config import Config, listen_address, outside_broker, read_config
from hub.control import ControlServer
from hub.loop import Loop
from hub.registry import alone
from hub.requests.answer import answer
from hub.server_agent import ServerAgent
from hub.service import Service
from wire.mqtt import Broker, MqttTransport

CONNECT_TIMEOUT_S = 10.0
OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to reach what listens everywhere


def up(folder: Path, port: int | None, server_agent: Path | None, as_json: bool) -> int:
    """Run a hub until SIGINT or SIGTERM.

    Raises:
        UsageError, HubError, TransportError, StorageError: it cannot start.
    """
    config, loop = read_config(folder), Loop()
    with ExitStack() as stack:
        stack.enter_context(alone(folder))
        stack.enter_context(_signals(loop.stop))
        broker, embedded = _broker(config, folder, port, stack)
        inner = broker if embedded is None else Broker("127.0.0.1", embedded.inner_port)
        transport = MqttTransport(inner, f"edgequilt-hub-{config.fleet}")
        service = Service(folder, transport)
        stack.callback(service.close)
        service.broker, service.broker_lacks = repr(broker), show.LACKS if embedded else []
        if embedded is not None:
            service.nobody_is_online()  # a broker that has just started has no clients
        service.start(loop.defer)
        control = ControlServer(folder, lambda request: loop.wait_for(partial(answer, service, request)))
        stack.callback(control.close)
        connected = transport.wait_connected(CONNECT_TIMEOUT_S)
        if embedded is not None:
            embedded.open()
        agent = None if server_agent is None else ServerAgent(server_agent)
        if agent is not None:
            stack.callback(agent.close)
        _say_ready(service, broker, control.path, connected, as_json)
        loop.run(partial(_tick, service, embedded, agent))
    return 0


def _broker(config: Config, folder: Path, port: int | None, stack: ExitStack) -> tuple[Broker, EmbeddedBroker | None]:
    """The broker that hub.toml names, or the embedded one, started."""
    outside = outside_broker(config, folder)
    if outside is not None:
        if port is not None:
            raise UsageError(
                "expected --port with the embedded broker only, found broker.url in hub.toml; leave one of them out"
            )
        return outside, None
    host, usual = listen_address(config)
    embedded = EmbeddedBroker(host, usual if port is None else port)
    stack.callback(embedded.close)
    bare = host.strip("[]")
    return Broker(OWN.get(bare, bare), embedded.port), embedded


def _tick(service: Service, embedded: EmbeddedBroker | None, agent: ServerAgent | None) -> None:
    service.tick()
    if agent is not None:
        agent.watch()
    if embedded is not None and not embedded.is_running:
        raise TransportError("expected the embedded broker to run, it ended by itself; start the hub again")


def _say_ready(service: Service, broker: Broker, socket_path: Path, connected: bool, as_json: bool) -> None:
    if as_json:
        ready = {
            "ready": True,
            "host": broker.host,
            "port": broker.port,
            "socket": str(socket_path),
            "connected": connected,
            "broker_lacks": service.broker_lacks,
        }
        print(json.dumps(ready), flush=True)
        return
    lines = [f"the hub is ready: broker {broker!r}, socket {socket_path}"]
    if not connected:
        lines.append("the broker does not answer yet; the hub keeps trying")
    if service.broker_lacks:
        lines.append(
            f"the embedded broker lacks {' and '.join(service.broker_lacks)}: keep it in a network that you trust"
        )
    print("\n".join(lines), flush=True)


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the loop; outside of the main thread they are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, lambda *_: stop()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
