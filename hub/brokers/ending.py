"""Ends the connection of a device at the broker: brokers have no other word for it than another client of its name.

MQTT demands that the one before is then closed (3.1.1, section 3.1.4), and what waited for it comes to the new one,
which drops it. Where the broker's access list forbids the hub such a name, nothing happens but that: the list, which
is asked at every message, shuts the device out all the same.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from wire.broker import Broker
from wire.mqtt import MqttTransport

PATIENCE_S = 5.0


def end_session(broker: Broker, fleet: str, device: str) -> threading.Thread:
    """Take a device's place at the broker for a moment; on a thread, since the hub has other things to do."""
    thread = threading.Thread(target=_take_place, args=(broker, f"edgequilt-{fleet}-{device}"), daemon=True)
    thread.start()
    return thread


def _take_place(broker: Broker, client: str) -> None:
    with suppress(Exception):  # it is shut out by the list as well
        transport = MqttTransport(broker, client)
        transport.start(lambda topic, payload: None, lambda up: None)
        transport.wait_connected(PATIENCE_S)
        transport.close()
