"""Why a local request gets no answer, with its HTTP status."""

from __future__ import annotations

from console.errors import EdgequiltError


class Refused(EdgequiltError):
    """A request that is not answered; `status` is HTTP's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
