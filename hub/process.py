"""The hub as a process: broker, transport, local socket and server agent around one loop that owns the service."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from console.errors import HubError, UsageError
from hub import requests, show
from hub import schema as t
from hub.broker import EmbeddedBroker
from hub.config import listen_address, outside_broker, read_config
from hub.control import ControlServer
from hub.registry import alone
from hub.service import Service
from wire.mqtt import Broker, MqttTransport

log = logging.getLogger("edgequilt.hub")
TICK_S = 0.5
WAITING_CALLS = 4000  # at 64 KiB a message, 256 MiB
ANSWER_TIMEOUT_S = 110.0


class Loop:
    """Calls from other threads, made one at a time by the thread that runs the loop."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue(WAITING_CALLS)
        self._stop = threading.Event()

    def defer(self, call: Callable[[], None]) -> None:
        """Have a call made; waits while too many wait already, which slows the sender down."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._calls.put(call, timeout=1.0)
                return

    def wait_for(self, function: Callable[[], Any]) -> Any:
        """Have a function called and wait for its result or its exception."""
        future: Future[Any] = Future()

        def call() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001  # who asked gets it
                future.set_exception(error)

        self.defer(call)
        try:
            return future.result(ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise HubError("expected an answer within two minutes, the hub is busy; ask again") from error

    def stop(self) -> None:
        """End `run` after the call that is being made."""
        self._stop.set()

    def run(self, tick: Callable[[], None]) -> None:
        """Make calls until `stop`, and `tick` at least every half second."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                self._calls.get(timeout=TICK_S)()
                for _ in range(100):
                    self._calls.get_nowait()()
            tick()


def up(folder: Path, port: int | None, server_agent: Path | None, as_json: bool) -> int:
    """Run a hub until SIGINT or SIGTERM.

    Raises:
        UsageError, HubError, TransportError, StorageError: it cannot start.
    """
    config = read_config(folder)
    if server_agent is not None and not server_agent.is_file():
        raise UsageError(
            f"expected the server agent's configuration at {server_agent}, found none; check --server-agent"
        )
    loop = Loop()
    with alone(folder), _signals(loop.stop):
        outside = outside_broker(config, folder)
        host, default_port = listen_address(config)
        if outside is not None and port is not None:
            raise UsageError(
                "expected --port with the embedded broker only, found broker.url in hub.toml; leave one of them out"
            )
        embedded = EmbeddedBroker(host, default_port if port is None else port) if outside is None else None
        try:
            broker = outside or Broker(embedded.host, embedded.port)  # type: ignore[union-attr]  # one of them is there
            return _serve(folder, config.fleet, broker, embedded is not None, loop, server_agent, as_json)
        finally:
            if embedded is not None:
                embedded.close()


def _serve(
    folder: Path, fleet: str, broker: Broker, embedded: bool, loop: Loop, server_agent: Path | None, as_json: bool
) -> int:
    service = Service(folder, MqttTransport(broker, f"edgequilt-hub-{fleet}"))
    service.broker = repr(broker)
    service.broker_lacks = show.LACKS if embedded else []
    if embedded:  # a broker that has just started has no clients
        with service.home.ledger.transaction() as tx:
            tx.execute(t.devices.update().values(online=False))
    service.start(loop.defer)
    control = ControlServer(folder, lambda request: loop.wait_for(partial(requests.answer, service, request)))
    child = _start_agent(server_agent)
    try:
        _say_ready(broker, control.path, embedded, as_json)
        loop.run(partial(_tick, service, child))
    finally:
        control.close()
        _end(child)
        service.close()
    return 0


def _tick(service: Service, child: subprocess.Popen[bytes] | None) -> None:
    service.tick()
    if child is not None and child.poll() not in (None, 0) and not getattr(child, "reported", False):
        child.reported = True  # type: ignore[attr-defined]  # said once
        log.warning("the server agent ended with exit code %s", child.returncode)


def _say_ready(broker: Broker, socket_path: Path, embedded: bool, as_json: bool) -> None:
    if as_json:
        ready = {
            "ready": True,
            "host": broker.host,
            "port": broker.port,
            "socket": str(socket_path),
            "broker_lacks": show.LACKS if embedded else [],
        }
        print(json.dumps(ready), flush=True)
        return
    lacks = f"; the embedded broker has no {' and no '.join(show.LACKS)}: keep it in a network that you trust"
    print(f"the hub is ready: broker {broker!r}, socket {socket_path}{lacks if embedded else ''}", flush=True)


def _start_agent(config: Path | None) -> subprocess.Popen[bytes] | None:
    if config is None:
        return None
    return subprocess.Popen(
        [sys.executable, "-m", "edgequilt", "agent", "run", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _end(child: subprocess.Popen[bytes] | None) -> None:
    if child is None or child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM end the loop; outside of the main thread (tests) they are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, lambda *_: stop()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
