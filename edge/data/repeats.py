"""Rows that were seen before: the same sample again, with another label, or on both sides of the hold-out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from edge.data.wanted import Found

BLOCK_BYTES = 1 << 16


@dataclass
class Repeats:
    """Counts of rows, by the SHA-256 of what the model would see.

    Attributes:
        again: rows whose sample came before.
        contradicting: those of them that have another label than at first.
        across: samples that lie on both sides.
        first_again: where the first of them is, and the first that contradicts.
    """

    again: int = 0
    contradicting: int = 0
    across: int = 0
    first_again: str = ""
    first_contradicting: str = ""
    _seen: dict[bytes, tuple[str, list[bool]]] = field(default_factory=dict)

    def see(self, found: Found, *, kept_back: bool) -> None:
        """Count a row."""
        label, sides = self._seen.setdefault(_digest(found), (found.label, []))
        if sides:
            self.again += 1
            self.first_again = self.first_again or found.where
        if label != found.label:
            self.contradicting += 1
            self.first_contradicting = self.first_contradicting or found.where
        if kept_back not in sides:
            sides.append(kept_back)
            self.across += len(sides) == 2

    def told(self) -> list[str]:
        """Warnings, a sentence each."""
        found = []
        if self.again:
            found.append(f"{self.again} rows repeat a sample, the first in {self.first_again}")
        if self.contradicting:
            first = f"the first in {self.first_contradicting}"
            found.append(f"{self.contradicting} rows give a sample that came before another label, {first}")
        if self.across:
            found.append(f"{self.across} samples are both learned from and kept back: the score will flatter")
        return found


def _digest(found: Found) -> bytes:
    sha = hashlib.sha256()
    if isinstance(found.sample, Path):
        with found.sample.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                sha.update(block)
    else:
        sha.update(found.key.encode())
    return sha.digest()[:16]
