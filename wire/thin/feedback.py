"""Error feedback: what a thin update lost is added to the next one.

Seide et al., "1-Bit Stochastic Gradient Descent", INTERSPEECH 2014, section 3.1; Karimireddy et al., "Error Feedback
Fixes SignSGD and other Gradient Compression Schemes", arXiv 1901.09847, algorithm 2:

    p = change + e        send C(p)        e = p - C(p)

so the sum of all that was sent is the sum of all changes but for the last e. Factors of LoRA have no common basis from
version to version: each begins with new singular directions. Their products have. So e is a product, e = L R [in, out]
of low rank, and so is what should arrive, T = s A B + e, with A and B as trained from A0, B0. Factors are made to say
it, one after the other, each with the other as the hub will have it:

    A* = A + (T / s - A B) B^T (B B^T + a I)^-1              sent: C(A* - A0)        A' = A0 + C(A* - A0)
    B* = B + (A'^T A' + b I)^-1 A'^T (T / s - A' B)          sent: C(B* - B0)        B' = B0 + C(B* - B0)
    e  = T - s A' B', its best approximation of twice the board's rank

So what coding lost of A is already made good in B, within the same update. a and b keep weak directions from being
turned far for little. A factor that rests is not sent, and stays to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wire.kinds.lora import Lora
from wire.ladder import refactor

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Code = Callable[[Single], Single]  # differences of any shape -> as they arrive; what is sent is noted on the way
Learns = Literal["both", "a", "b"]
WEAK_A, WEAK_B = 0.1, 1e-3  # a and b, in parts of the largest eigenvalue of B B^T and A'^T A'
TIMES_RANK = 2  # of e: what one update loses has no more


@dataclass(frozen=True)
class Product:
    """left @ right: [in, R], [R, out]."""

    left: Array
    right: Array


def coded(sent: Lora, trained: Lora, lost: Product | None, code: Code, learns: Learns) -> tuple[Lora, Product]:
    """Send a slot: the factors as the hub will have them, and what is lost.

    Args:
        sent: A0, B0: what the board started from, of its rank r.
        trained: A, B, of the same rank and scale.
        lost: e, of earlier updates; None: nothing.
        code: sends differences.
        learns: which factors are sent.
    """
    a, b, scale = trained.a.astype(np.float64), trained.b.astype(np.float64), sent.scale
    target = _target(trained, lost)
    if learns in ("both", "a") and lost is not None:
        a = a + _towards(Product(lost.left / scale, lost.right), b)
    arrived_a = sent.a if learns == "b" else sent.a + code((a - sent.a).astype(np.float32))
    if learns in ("both", "b"):
        there = arrived_a.astype(np.float64)
        b = b + _solved(there, Product(np.hstack([target.left / scale, -there]), np.vstack([target.right, b])))
    arrived_b = sent.b if learns == "a" else sent.b + code((b - sent.b).astype(np.float32))
    arrived = Lora(arrived_a, arrived_b, scale)
    return arrived, left_over(target, arrived)


def left_over(target: Product, arrived: Lora) -> Product:
    """e: what of a product did not arrive, cut to a rank."""
    left = np.hstack([target.left, -arrived.scale * arrived.a.astype(np.float64)])
    found = refactor(left, np.vstack([target.right, arrived.b.astype(np.float64)]), TIMES_RANK * arrived.rank)
    return Product(found.u * found.s, found.vt)


def _target(trained: Lora, lost: Product | None) -> Product:
    """T: the product as trained, and what earlier updates lost."""
    left, right = trained.scale * trained.a.astype(np.float64), trained.b.astype(np.float64)
    if lost is None:
        return Product(left, right)
    return Product(np.hstack([left, lost.left]), np.vstack([right, lost.right]))


def _towards(wanted: Product, b: Array) -> Array:
    """The change of A that brings A B nearest to what is wanted more: [in, r]."""
    gram = b @ b.T
    weak = WEAK_A * float(np.linalg.norm(gram, 2))
    if not weak:
        return np.zeros((len(wanted.left), len(b)))
    found: Array = wanted.left @ np.linalg.solve(gram + weak * np.eye(len(gram)), b @ wanted.right.T).T
    return found


def _solved(a: Array, wanted: Product) -> Array:
    """The change of B that brings A B nearest to what is wanted more: [r, out]."""
    gram = a.T @ a
    weak = WEAK_B * float(np.linalg.norm(gram, 2))
    if not weak:
        return np.zeros((a.shape[1], wanted.right.shape[1]))
    found: Array = np.linalg.solve(gram + weak * np.eye(len(gram)), a.T @ wanted.left) @ wanted.right
    return found
