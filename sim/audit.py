"""What must hold after every run, checked from the files that the hub and the agents left, by other arithmetic.

Each check is one function: paths and plain data in, a `Check` out. Nothing here trusts what the hub says of
itself: products are formed densely in float64, the head is solved from features that are computed again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.aggregation import lda
from hub.registry import Home
from hub.versions import read_heads, read_ladder, read_made
from sim.result import BoardResult, Check
from wire.adapter import read_adapter
from wire.envelope import Trust, unseal
from wire.files import digest
from wire.kinds.head import Statistics, gather
from wire.kinds.lora import Lora

FLOAT32_ROUNDING = 1e-6  # factors are published in float32: relative error of a product


def receipted_is_kept(home: Home, receipt_logs: dict[str, Path]) -> Check:
    """Every update that an agent holds a receipt for is on the hub's disk, and counts once."""
    lost, seen = [], 0
    for device, log in receipt_logs.items():
        for line in log.read_text().splitlines() if log.exists() else []:
            receipt = json.loads(line)
            if receipt["status"] not in ("accepted", "duplicate"):
                continue
            seen += 1
            path = home.blobs.path(receipt["update"])
            if not path.exists() or digest(path.read_bytes()) != receipt["update"]:
                lost.append(f"{device}: {receipt['update'][:12]}")
    rows = [row for number in range(1, home.ledger.last_round() + 1) for row in home.ledger.updates(number)]
    counted = Counter((row["round"], row["device"], row["kind"]) for row in rows)
    double = [key for key, times in counted.items() if times > 1]
    held = not lost and not double and seen == len(rows) > 0
    return Check("nothing receipted is lost or counted twice", held, f"{seen} receipts, {len(rows)} updates counted")


def within_budget(boards: Sequence[BoardResult]) -> Check:
    """No worker's measured peak is above its board's budget, and every worker was measured."""
    held = all(0 < b.peak_bytes <= b.budget_bytes for b in boards)
    share = max(b.peak_bytes / b.budget_bytes for b in boards)
    return Check("no worker above its board's budget", held, f"at most {100 * share:.0f} % used")


def aggregate_is_exact(home: Home) -> Check:
    """Each trained version equals the dense float64 sum of its updates within the tail that it states."""
    worst, rounds = 0.0, 0
    for row in home.ledger.versions():
        updates = home.ledger.updates(row["round"], "adapter")
        if not updates:
            continue
        rounds += 1
        made = read_made(row)
        parent = read_made(home.ledger.version(made.version.parent) or {})
        sent, published = read_ladder(parent.version, home.blobs), read_ladder(made.version, home.blobs)
        boards = [(read_adapter(home.blobs.get(u["digest"]), "an update").lora, float(u["samples"])) for u in updates]
        for slot, ladder in sent.items():
            oracle = _dense(ladder, [(factors[slot], weight) for factors, weight in boards])
            error = float(np.linalg.norm(oracle - published[slot].product()))
            size = float(np.linalg.norm(oracle))
            stated = float(made.cut[slot][0])
            worst = max(worst, (error - stated) / max(size, 1e-12))
    held = rounds > 0 and worst <= FLOAT32_ROUNDING
    return Check(
        "the aggregate equals a float64 oracle within its stated tail", held, f"{rounds} rounds, excess {worst:.1e}"
    )


def head_is_pooled(
    home: Home, round_number: int, pooled: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]
) -> Check:
    """The head from summed statistics equals the head of all rows in one place, to 1e-9.

    Args:
        home: the hub.
        round_number: the first round of statistics, before any direction carried anything.
        pooled: per board, features [n, D] and classes [n] of its training rows, computed again here.
    """
    rows = home.ledger.updates(round_number, "statistics")
    sent = [read_adapter(home.blobs.get(row["digest"]), "statistics").statistics for row in rows]
    features, classes = (np.concatenate([pair[i] for pair in pooled]) for i in (0, 1))
    version = read_made(next(row for row in home.ledger.versions() if row["round"] == round_number)).version
    heads = read_heads(version, home.blobs)
    whole = gather(features, classes, len(version.labels))
    (other, other_bias), scaled = lda.solve64(whole), lda.LOGIT_SCALE * lda.solve64(whole)[0]
    error, stored = 0.0, bool(sent and heads)
    for rank, published in heads.items():
        total = Statistics(np.zeros_like(whole.count), np.zeros_like(whole.sum), np.zeros_like(whole.gram))
        for by_rank in sent:
            total = total + by_rank[rank]
        one, one_bias = lda.solve64(total)
        error = max(error, float(np.abs(one - other).max() / np.abs(other).max()))
        error = max(error, float(np.abs(one_bias - other_bias).max() / np.abs(other_bias).max()))
        stored = stored and np.allclose(published.weight, scaled, rtol=1e-5, atol=1e-6 * np.abs(scaled).max())
    return Check(
        "the summed head equals the pooled head to 1e-9", error <= 1e-9 and stored, f"relative error {error:.1e}"
    )


def signatures_hold(home: Home, bundles_checked: int, hub_log: Path) -> Check:
    """Every version in the ledger carries the hub's signature; bundles were checked; the hub refused nothing."""
    trust, checked = Trust([home.key.public]), 0
    for row in home.ledger.versions():
        body, _ = unseal(row["envelope"], "hub", trust, f"version {row['number']}")
        checked += body == row["body"] and digest(body) == row["digest"]
    refused = sum(receipt["status"] == "refused" for receipt in home.ledger.receipts(100_000))
    refused += hub_log.read_text(errors="replace").count("signed by a trusted device key")
    held = checked == len(home.ledger.versions()) > 0 and bundles_checked > 0 and refused == 0
    return Check(
        "all signatures checked", held, f"{checked} versions, {bundles_checked} bundles, {refused} messages refused"
    )


def _dense(sent: Lora, boards: list[tuple[Lora, float]]) -> NDArray[np.float64]:
    """The aggregate of docs/adapter.md by whole matrices: sum_k w_k P_k + sum_i (1 - m_i) s a_i b_i."""
    total = sum(weight for _, weight in boards)
    result: Any = sum(weight / total * factors.product() for factors, weight in boards)
    for i in range(sent.rank):
        held = sum(weight for factors, weight in boards if factors.rank > i) / total
        direction = np.outer(sent.a[:, i].astype(np.float64), sent.b[i].astype(np.float64))
        result = result + (1 - held) * sent.scale * direction
    return np.asarray(result)
