"""Many Flower nodes in one process, through SuperNode's own connection and its own way of sending and fetching.

`python nodes.py ADDRESS CA COUNT SLOTS SIDE RANK PACKED` runs in Flower's environment until it is ended; it says
`ready` when all are registered and connected. A real SuperNode also keeps messages in a database of its own and starts
a process for every message: what that takes is left out, in Flower's favour.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects, push_object_contents_from_iterable
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supernode.fleet_http_connection import http_request_response

sys.path.insert(0, str(Path(__file__).parent / "app"))
from load.arrays import count, record, shapes

IDLE_S = 3.0  # as long as start_client_internal.py of flwr sleeps; an arm may shorten it
POOL = np.random.default_rng(7).standard_normal(1 << 21).astype(np.float32)


def main(address: str, ca: str, number: str, *shape: str) -> None:
    """Register, connect, serve."""
    slots, side, rank, packed = map(int, shape)
    wanted = shapes(slots, side, rank)
    pem, keys = Path(ca).read_bytes(), [generate_key_pairs() for _ in range(int(number))]
    versioned = [RuntimeVersionHttpInterceptor(component_name="flwr-cli")]
    control = ControlHttpClient.from_server_address(address, False, pem, versioned)
    for _, public in keys:
        control.RegisterNode(RegisterNodeRequest(public_key=public_key_to_bytes(public)))
    control.close()
    connected = threading.Semaphore(0)
    for index, pair in enumerate(keys):
        work = partial(serve, address, ca, pair, index, wanted, bool(packed), connected)
        threading.Thread(target=work, daemon=True).start()
    for _ in keys:
        connected.acquire()
    print("ready", flush=True)
    threading.Event().wait()


def serve(
    address: str, ca: str, pair: Any, index: int, wanted: Any, packed: bool, connected: threading.Semaphore
) -> None:
    """One node, for ever."""
    draw = np.random.default_rng(index)
    with http_request_response(address, False, ca, pair) as (_, receive, send, _, _, pull, push, confirm):
        connected.release()
        while True:
            came = receive()
            if came is None:
                time.sleep(min(IDLE_S, float(os.environ.get("BENCH_POLL_S", IDLE_S))))
                continue
            message, tree = came
            run = message.metadata.run_id
            wanted_ids = list(dict.fromkeys(node.object_id for node in iterate_object_tree(tree)))
            pull_objects(wanted_ids, partial(pull, run))
            confirm(run, message.metadata.message_id)
            answer(message, draw, wanted, packed, send, push)


def answer(message: Message, draw: Any, wanted: Any, packed: bool, send: Any, push: Any) -> None:
    """Push an adapter of numbers that nobody else has."""
    size = count(wanted)
    at = int(draw.integers(len(POOL) - size))
    numbers = POOL[at : at + size] + np.float32(draw.standard_normal())
    content = RecordDict({"arrays": record(numbers, wanted, packed), "metrics": MetricRecord({"num-examples": 100})})
    reply = Message(content, reply_to=message)
    with no_object_id_recompute():
        reply.metadata.__dict__["_message_id"] = reply.object_id
        tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
        ids, session = send(reply, tree, 0.0)
        pieces = ((name, objects[name].deflate()) for name in ids)
        push_object_contents_from_iterable(pieces, partial(push, message.metadata.run_id, session))


if __name__ == "__main__":
    main(*sys.argv[1:])
