"""The client's part for real SuperNodes: other numbers every time, and no learning."""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from load.arrays import count, record, shapes

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with an adapter of the same size."""
    told = context.run_config
    wanted = shapes(int(told["slots"]), int(told["side"]), int(told["rank"]))
    numbers = np.random.default_rng().standard_normal(count(wanted)).astype(np.float32)
    content = {
        "arrays": record(numbers, wanted, bool(told["packed"])),
        "metrics": MetricRecord({"num-examples": 100}),
    }
    return Message(RecordDict(content), reply_to=message)
