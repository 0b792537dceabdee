"""A worker as a process: transport and ledger around the loop that owns it."""

from __future__ import annotations

import json
import secrets
import socket
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from console.errors import HubError, TransportError
from hub.brokers.start import for_workers
from hub.config import read_config
from hub.serving.loop import Loop
from hub.serving.process import signals
from hub.store.registry import database_of, open_home
from hub.workers.helped import BROKER
from hub.workers.worker import Worker
from wire.mqtt import MqttTransport

CONNECT_TIMEOUT_S = 10.0
TICK_S = 0.05
WAITING_CALLS = 500  # what a killed worker had, its devices send again


def work(folder: Path, url: str, as_json: bool) -> int:
    """Run a worker until SIGINT or SIGTERM.

    Args:
        folder: the hub's, or where it is mounted.
        url: of the broker; empty: as the hub last said.
        as_json: say that it is ready as JSON.

    Raises:
        HubError: the ledger is not in PostgreSQL, or no hub has said where its broker is.
        TransportError: the broker does not answer, or has no shared subscriptions.
    """
    config, loop = read_config(folder), Loop(TICK_S, WAITING_CALLS)
    if database_of(config, folder).path is not None:
        raise HubError(
            "expected the ledger in PostgreSQL, which workers and the hub can share, found it in a file; name one "
            "under [database] in hub.toml, or let the hub work alone"
        )
    with ExitStack() as stack:
        stack.enter_context(signals(loop.stop))
        home = open_home(folder, reading=True)
        stack.callback(home.ledger.close)
        url = url or home.ledger.get(BROKER)
        if not url:
            raise HubError("expected the hub to have said where its broker is, it has not run yet; start it first")
        name = f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}"
        transport = MqttTransport(
            for_workers(config, folder, url),
            f"edgequilt-worker-{config.fleet}-{name}",
            protocol=config.broker.protocol,
            session_s=0,
        )
        stack.callback(transport.close)
        worker = Worker(home, transport, name, time.monotonic)
        transport.start(
            lambda topic, payload: loop.defer(partial(worker.handle, topic, payload)),
            lambda up: None,
        )
        if not transport.wait_connected(CONNECT_TIMEOUT_S):
            raise TransportError(f"expected the broker at {url} to answer, it does not; is the hub running?")
        if not transport.capabilities.shared_subscriptions:
            raise TransportError(
                f"expected a broker with shared subscriptions at {url}, found one that speaks MQTT "
                f"{transport.capabilities.protocol}; use mosquitto or another one of MQTT 5, or let the hub work alone"
            )
        worker.tick()
        stack.callback(worker.close)
        worker.listen()
        ready = {"ready": True, "worker": name, "broker": url}
        print(json.dumps(ready) if as_json else f"worker {name} takes updates from {url}", flush=True)
        loop.run(worker.tick)
    return 0
