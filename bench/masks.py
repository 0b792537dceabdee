"""What a sum under masks costs a board and the hub, by boards and by boards that drop out: time and bytes.

    python -m bench.masks [--boards 10,50,200] [--numbers 100000] [--dropped 0.1]

All boards are in one process; times are of the processor; of a board the mean over them, of the hub the whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from console.table import table
from hub.masking.unmask import Revealed, opened
from wire import messages as m
from wire.masks import device as d
from wire.masks import pairwise
from wire.masks.fixed_point import encode
from wire.masks.told import Told

Made = TypeVar("Made")


def main() -> None:
    """Print a line per number of boards."""
    parser = argparse.ArgumentParser(description="What a sum under masks costs.")
    parser.add_argument("--boards", default="10,50,200")
    parser.add_argument("--numbers", type=int, default=100_000)
    parser.add_argument("--dropped", type=float, default=0.1)
    told = parser.parse_args()
    rows = [measured(int(n), told.numbers, told.dropped) for n in told.boards.split(",")]
    heads = [
        "boards",
        "dropped",
        "share s",
        "open s",
        "mask s",
        "agree s",
        "reveal s",
        "keys+shares KiB",
        "update KiB",
        "hub s",
    ]
    print(table(heads, rows))


def measured(boards: int, numbers: int, dropped: float) -> list[object]:
    """One sum from its keys to its end, checked."""
    terms = Told(2 * boards // 3 + 1, boards, 2.0**20, 28)
    sender, names = m.Sender("b000", "boot", 0), [f"b{n:03d}" for n in range(boards)]
    states = {name: d.begin(f"r1-train-{name}", 1, name, terms) for name in names}
    keys = {name: state.public for name, state in states.items()}
    share_s, states = timed(lambda name: d.on_roster(states[name], keys), names)
    sealed = {name: {n: states[n].sealed[name] for n in names if n != name} for name in names}
    shares = m.encode(m.MaskShares(sender, "r1-train-b000", dict(states["b000"].sealed)))
    open_s, states = timed(lambda name: d.on_sealed(states[name], sealed[name]), names)

    vector = encode(np.full(numbers, 0.5), terms.bound, terms.fraction_bits)
    survivors = names[: boards - int(dropped * boards)]
    began, masked = time.process_time(), dict[str, bytes]()
    for name in survivors:
        seeds = d.seeds_of(states[name])
        masked[name] = pairwise.add(vector.copy(), seeds.plus, seeds.minus).tobytes()
    mask_s = (time.process_time() - began) / len(survivors)

    some = survivors[: terms.threshold]
    agree_s, told_by = timed(lambda name: d.on_survivors(states[name], tuple(survivors)), some)
    tags = {name: {n: told_by[n][1][name] for n in some if n != name} for name in some}
    reveal_s, opening = timed(lambda name: d.on_open(told_by[name][0], tags[name]), some)
    reveals = {n: m.MaskReveal(sender, states[n].job, seeds, secrets) for n, (_, seeds, secrets) in opening.items()}

    said = {n: m.MaskKeys(sender, "job", 1, k.sealing, k.masking, k.commitment) for n, k in keys.items()}
    began = time.process_time()
    total = opened(Revealed(terms, said, tuple(names), tuple(survivors), reveals), iter(masked.values()), numbers)
    hub_s = time.process_time() - began
    if not (total == 0.5 * len(survivors)).all():
        raise SystemExit(f"expected the sum of {len(survivors)} halves, found something else")
    told = [share_s, open_s, mask_s, agree_s, reveal_s]
    kib = [(len(shares) + len(m.encode(said["b000"]))) / 1024, 8 * numbers / 1024]
    return [boards, boards - len(survivors), *(f"{s:.3f}" for s in told), *(f"{k:.1f}" for k in kib), f"{hub_s:.2f}"]


def timed(step: Callable[[str], Made], names: list[str]) -> tuple[float, dict[str, Made]]:
    """The mean time of a step of a board, and the states after it."""
    began = time.process_time()
    after = {name: step(name) for name in names}
    return (time.process_time() - began) / len(names), after


if __name__ == "__main__":
    main()
