"""Samples that were asked about lately, so that a label can be corrected by their name; in memory alone."""

from __future__ import annotations

import threading
from collections import OrderedDict

from edge.local.sample import Sample

LIMIT_BYTES = 1 << 20
LIMIT = 256


class Remembered:
    """The latest samples, within a bound; any thread may use it."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES, limit: int = LIMIT) -> None:
        self._limit_bytes, self._limit = limit_bytes, limit
        self._kept: OrderedDict[str, Sample] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def add(self, sample: Sample) -> None:
        """Remember one; the oldest are forgotten for it."""
        with self._lock:
            known = self._kept.pop(sample.id, None)
            self._bytes -= len(known.data) if known is not None else 0
            if len(sample.data) > self._limit_bytes:
                return
            self._kept[sample.id] = sample
            self._bytes += len(sample.data)
            while self._bytes > self._limit_bytes or len(self._kept) > self._limit:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.data)

    def get(self, name: str) -> Sample | None:
        """A sample by its id; None: it was never asked about, or too many were since."""
        with self._lock:
            return self._kept.get(name)
