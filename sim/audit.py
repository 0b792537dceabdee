"""What must hold after every run, checked from the files that the hub and the agents left, by other arithmetic.

Each check is one function: paths and plain data in, a `Check` out. Nothing here trusts what the hub says of
itself: products are formed densely in float64, the head is solved from features that are computed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, SignatureError
from hub.making.versions import read_heads, read_ladder, read_made
from hub.store.ledger import Row
from hub.store.registry import Home
from sim.result import BoardResult, Check
from wire import discriminant
from wire.adapter import read_adapter
from wire.envelope import Trust, unseal
from wire.files import digest
from wire.kinds.head import Head, Statistics, gather
from wire.kinds.lora import Lora

FEW_ROWS = 20  # of a class on average, below which a hub left alone takes nearest means
FLOAT32_ROUNDING = 1e-6  # factors are published in float32: relative error of a product


def receipted_is_kept(home: Home, receipts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Check:
    """Every update that an agent holds a receipt for is on the hub's disk and counts once; nothing else counts."""
    receipted = {
        (device, str(receipt["job"]), str(receipt["digest"]))
        for device, held in receipts.items()
        for receipt in held
        if receipt["status"] in ("accepted", "duplicate")
    }
    rows = [row for number in range(1, home.ledger.last_round() + 1) for row in home.ledger.updates(number)]
    counted = Counter((row["device"], row["job"], row["digest"]) for row in rows)
    kept = all(_is_kept(home.blobs.path(update), update) for _, _, update in receipted)
    held = kept and bool(counted) and counted == Counter(receipted)
    return Check(
        "nothing receipted is lost or counted twice", held, f"{len(receipted)} receipts, {len(rows)} updates counted"
    )


def within_budget(boards: Sequence[BoardResult]) -> Check:
    """No worker's measured peak is above its board's budget, and every worker was measured."""
    held = all(0 < b.peak_bytes <= b.budget_bytes for b in boards)
    share = max(b.peak_bytes / b.budget_bytes for b in boards)
    return Check("no worker above its board's budget", held, f"at most {100 * share:.0f} % used")


def aggregate_is_exact(home: Home) -> Check:
    """Each trained version equals the dense float64 sum of its updates within the tail that it states.

    It must be the best that the hub's rank allows: the leading part of a dense singular value decomposition, and the
    stated tail the norm of the rest. (The distance to the sum alone hides small errors behind a tail: they add up as
    the sides of a right triangle.)
    """
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
            best, tail = _truncated(_dense(ladder, [(f[slot], weight) for f, weight in boards]), made.version.rank)
            size = max(float(np.hypot(np.linalg.norm(best), tail)), 1e-12)
            error = float(np.linalg.norm(best - published[slot].product()))
            worst = max(worst, error / size, abs(float(made.cut[slot][0]) - tail) / size)
    held = rounds > 0 and worst <= FLOAT32_ROUNDING
    return Check(
        "the aggregate equals a float64 oracle within its stated tail",
        held,
        f"{rounds} rounds, relative error {worst:.1e}",
    )


def head_is_pooled(
    home: Home, round_number: int, pooled: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]
) -> Check:
    """The head from summed statistics equals the head of all rows in one place, to 1e-9; published is that head.

    What later rounds of statistics published is compared with their own sums: nobody has their features in one place.

    Args:
        home: the hub.
        round_number: the first round of statistics, before any direction carried anything.
        pooled: per board, features [n, D] and classes [n] of its training rows, computed again here.
    """
    features, classes = (np.concatenate([pair[i] for pair in pooled]) for i in (0, 1))
    error, ranks, stored = 0.0, 0, True
    for row in home.ledger.versions():
        updates = home.ledger.updates(row["round"], "statistics")
        if not updates:
            continue
        version = read_made(row).version
        sums = _summed([read_adapter(home.blobs.get(u["digest"]), "statistics").statistics for u in updates])
        heads = read_heads(version, home.blobs)
        stored = stored and heads.keys() == sums.keys()
        for rank, total in sums.items():
            stored = stored and rank in heads and _is_published(heads[rank], total)
            if row["round"] == round_number:
                ranks += 1
                error = max(error, _apart(total, gather(features, classes, len(version.labels))))
    held = ranks > 0 and stored and error <= 1e-9
    return Check("the summed head equals the pooled head to 1e-9", held, f"relative error {error:.1e}")


def signatures_hold(home: Home, bundles_checked: int, ignored: Sequence[str]) -> Check:
    """Every version in the ledger carries the hub's signature; bundles were checked; nothing had to be refused.

    Args:
        home: the hub.
        bundles_checked: how many bundles were opened with a publisher's key.
        ignored: why the hub ignored messages, as its status says.
    """
    trust, versions = Trust([home.key.public]), home.ledger.versions()
    checked = sum(_is_signed(row, trust) for row in versions)
    refused = sum(receipt["status"] == "refused" for receipt in home.ledger.receipts(100_000))
    refused += sum(any(word in why for word in ("signed", "signature", "envelope")) for why in ignored)
    held = checked == len(versions) > 0 and bundles_checked > 0 and refused == 0
    return Check(
        "all signatures checked", held, f"{checked} versions, {bundles_checked} bundles, {refused} messages refused"
    )


def _is_kept(path: Path, sha256: str) -> bool:
    return path.exists() and digest(path.read_bytes()) == sha256


def _is_signed(row: Row, trust: Trust) -> bool:
    try:
        body, _ = unseal(row["envelope"], "hub", trust, f"version {row['number']}")
    except (SignatureError, BadData):
        return False
    return bool(body == row["body"] and digest(body) == row["digest"])


def _summed(sent: list[dict[int, Statistics]]) -> dict[int, Statistics]:
    total = dict(sent[0])
    for by_rank in sent[1:]:
        total = {rank: sums + by_rank[rank] for rank, sums in total.items()}
    return total


def _apart(one: Statistics, other: Statistics) -> float:
    """How far two heads are from each other, relative to the second one's largest entry."""
    pairs = zip(discriminant.solve64(one), discriminant.solve64(other), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def _is_published(head: Head, total: Statistics) -> bool:
    """Whether a head in float32 is the scaled head of some sums: discriminants, or nearest means of few rows."""
    seen = total.count > 0
    shrinkage = 1.0 if total.count[seen].mean() < FEW_ROWS else None
    pairs = zip((head.weight, head.bias[seen]), discriminant.solve64(total, shrinkage), strict=True)
    scaled = [(a, discriminant.LOGIT_SCALE * (b if b.ndim == 2 else b[seen])) for a, b in pairs]
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max()) for a, b in scaled)


def _dense(sent: Lora, boards: list[tuple[Lora, float]]) -> NDArray[np.float64]:
    """The aggregate of docs/adapter.md by whole matrices: sum_k w_k P_k + sum_i (1 - m_i) s a_i b_i."""
    total = sum(weight for _, weight in boards)
    result: Any = sum(weight / total * factors.product() for factors, weight in boards)
    for i in range(sent.rank):
        held = sum(weight for factors, weight in boards if factors.rank > i) / total
        direction = np.outer(sent.a[:, i].astype(np.float64), sent.b[i].astype(np.float64))
        result = result + (1 - held) * sent.scale * direction
    return np.asarray(result)


def _truncated(whole: NDArray[np.float64], rank: int) -> tuple[NDArray[np.float64], float]:
    """The best approximation of this rank, and the Frobenius norm of what it leaves out (Eckart and Young 1936)."""
    u, s, vt = np.linalg.svd(whole, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank], float(np.linalg.norm(s[rank:]))
