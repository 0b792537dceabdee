"""The server's part: a strategy whose mathematics is the hub's own module for the method `mean`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from hub.aggregation.mean import METHOD
from load.arrays import Shapes, count, factors, record, shapes
from wire.kinds.lora import Lora
from wire.ladder import slot_key

SCALE, MODEL = 2.0, "tiny"
app = ServerApp()


class Mean(FedAvg):
    """The weighted mean of A and that of B, slot by slot, at the hub's rank; notes when each round began and ended."""

    def __init__(self, wanted: Shapes, rank: int, packed: bool, out: Path, nodes: int) -> None:
        super().__init__(min_train_nodes=nodes, min_available_nodes=nodes, fraction_evaluate=0.0)
        self.wanted, self.rank, self.packed, self.out = wanted, rank, packed, out
        self.sent: dict[str, Any] = {}
        self.began = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What is sent, and the time."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self.sent = factors(arrays, self.wanted)
        self.began = time.monotonic()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One adapter out of many."""
        contents = [message.content for message in replies if message.has_content()]
        weights = [float(next(iter(c.metric_records.values()))["num-examples"]) for c in contents]
        total, found = sum(weights), [factors(next(iter(c.array_records.values())), self.wanted) for c in contents]
        made = {}
        for slot in dict.fromkeys(name.rpartition("/")[0] for name in self.wanted):
            state = METHOD.init(Lora(self.sent[f"{slot}/A"], self.sent[f"{slot}/B"], SCALE))
            for one, weight in zip(found, weights, strict=True):
                state = METHOD.apply(state, Lora(one[f"{slot}/A"], one[f"{slot}/B"], SCALE), weight / total)
            emitted = METHOD.finish(state, self.rank, SCALE, slot_key(MODEL, slot, server_round), 1.0)
            made[f"{slot}/A"] = emitted.a.astype(np.float32)
            made[f"{slot}/B"] = emitted.b.astype(np.float32)
        numbers = np.concatenate([made[name].ravel() for name in self.wanted])
        line = {"round": server_round, "began": self.began, "ended": time.monotonic(), "updates": len(contents)}
        with self.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return record(numbers, self.wanted, self.packed), None


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    told = context.run_config
    wanted = shapes(int(told["slots"]), int(told["side"]), int(told["rank"]))
    packed, rank = bool(told["packed"]), int(told["rank"])
    strategy = Mean(wanted, rank, packed, Path(str(told["out"])), int(told["nodes"]))
    began = np.random.default_rng(1).standard_normal(count(wanted)).astype(np.float32)
    strategy.start(grid, record(began, wanted, packed), num_rounds=int(told["rounds"]))
