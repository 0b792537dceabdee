"""The hub as a process: broker, transport, local socket and server agent around the loop that owns the service."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from console.errors import TransportError, join
from hub.brokers.ending import end_session
from hub.brokers.start import Started, start
from hub.config import read_config
from hub.requests.answer import answer
from hub.serving.control import ControlServer
from hub.serving.loop import TICK_S, Loop
from hub.serving.server_agent import ServerAgent
from hub.serving.service import Service
from hub.store.registry import alone, known_devices
from hub.web.start import Served, serve
from wire.broker import Broker
from wire.identity import BrokerAt
from wire.mqtt import MqttTransport

CONNECT_TIMEOUT_S = 10.0
HELPED_TICK_S = 0.05  # what workers leave is looked for; what devices say comes by itself


def up(
    folder: Path,
    kind: str | None,
    port: int | None,
    server_agent: Path | None,
    as_json: bool,
    web_port: int | None = None,
) -> int:
    """Run a hub until SIGINT or SIGTERM.

    Args:
        folder: the hub's.
        kind: which broker (`hub.brokers.start`).
        port: another port for a broker that the hub starts itself.
        server_agent: configuration of an agent to run beside the hub.
        as_json: say that it is ready as JSON.
        web_port: another port for HTTPS; where it is not said and `port` is 0, a free one too.

    Raises:
        UsageError, HubError, TransportError, StorageError: it cannot start.
    """
    config, loop = read_config(folder), Loop()
    with ExitStack() as stack:
        stack.enter_context(alone(folder))
        stack.enter_context(signals(loop.stop))
        broker = start(config, folder, kind, port, known_devices(folder), stack)
        transport = MqttTransport(broker.inner, f"edgequilt-hub-{config.fleet}", protocol=config.broker.protocol)
        service = Service(folder, transport)
        stack.callback(service.close)
        service.broker, service.broker_lacks = repr(broker.shown), list(broker.lacks)
        host = "" if broker.child is not None else broker.shown.host
        service.broker_at = BrokerAt(broker.shown.tls, host, broker.shown.port)
        service.allow = partial(broker.allow, config.fleet)
        service.end_session = partial(end_session, broker.inner, config.fleet)
        if broker.forgets:
            service.nobody_is_online()
        service.tell_workers(repr(broker.inner))
        service.start(loop.defer)
        control = ControlServer(folder, lambda request: loop.wait_for(partial(answer, service, request)))
        stack.callback(control.close)
        within = partial(_within, loop, service)
        at = 0 if web_port is None and port == 0 else web_port
        web = serve(config, folder, at, within, service.bundles, stack)
        service.web = web.at
        connected = transport.wait_connected(CONNECT_TIMEOUT_S)
        broker.open()
        agent = None if server_agent is None else ServerAgent(server_agent)
        if agent is not None:
            stack.callback(agent.close)
        _say_ready(service, broker.shown, control.path, connected, as_json)
        loop.run(partial(_tick, loop, service, broker, web, agent))
    return 0


def _within(loop: Loop, service: Service, function: Callable[[Service], Any]) -> Any:
    return loop.wait_for(partial(function, service))


def _tick(loop: Loop, service: Service, broker: Started, web: Served, agent: ServerAgent | None) -> None:
    service.tick()
    loop.tick_s = HELPED_TICK_S if service.helped.present else TICK_S
    if agent is not None:
        agent.watch()
    if broker.child is not None and not broker.child.is_running:
        raise TransportError("expected the broker to run, it ended by itself; start the hub again")
    if not web.is_well:
        raise TransportError("expected the web server to run, it ended by itself; see the log, and start the hub again")


def _say_ready(service: Service, broker: Broker, socket_path: Path, connected: bool, as_json: bool) -> None:
    if as_json:
        ready = {
            "ready": True,
            "host": broker.host,
            "port": broker.port,
            "tls": broker.tls,
            "web": service.web,
            "socket": str(socket_path),
            "connected": connected,
            "broker_lacks": service.broker_lacks,
        }
        print(json.dumps(ready), flush=True)
        return
    web = f"https://{service.web}, " if service.web else ""
    lines = [f"the hub is ready: broker {broker!r}, {web}socket {socket_path}"]
    if not connected:
        lines.append("the broker does not answer yet; the hub keeps trying")
    if service.broker_lacks:
        lacks = join(service.broker_lacks)
        lines.append(f"the embedded broker lacks {lacks}: keep it in a network that you trust")
    print("\n".join(lines), flush=True)


@contextmanager
def signals(stop: Callable[[], None]) -> Iterator[None]:
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
