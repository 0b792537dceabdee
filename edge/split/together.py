"""A trainer whose steps the tail does, too: told after each, or that it was nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from edge.split.talk import Talk
from edge.trainers.interface import Arrays, Gradients, Needs, NotFinite, Rows, State, Stepped, Trainer, Update


@dataclass(frozen=True)
class Together:
    """Any trainer of gradients, on the front of a model; `share` is that of the rate in the next step."""

    inner: Trainer
    talk: Talk
    share: float = 1.0

    @property
    def needs(self) -> Needs:
        """As the trainer that it wraps."""
        return self.inner.needs

    def slower(self, share: float) -> Together:
        """The same with a share of its rate, on both sides."""
        return replace(self, inner=self.inner.slower(share), share=self.share * share)

    def begin(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The state before the first step."""
        return self.inner.begin(arrays)

    def step(self, arrays: Arrays, state: State, rows: Rows) -> Stepped:
        """One step on some rows, here and there.

        Raises:
            NotFinite: a loss or a gradient; neither side did the step.
        """
        counted: list[int] = []
        try:
            made = self.inner.step(arrays, state, replace(rows, gradients=_counting(rows.gradients, counted)))
        except NotFinite:
            self.talk.undone()
            raise
        self.talk.stepped(sum(counted), self.share)
        return made

    def update(self, arrays: Arrays, state: State) -> Update:
        """What the hub is sent."""
        return self.inner.update(arrays, state)


def _counting(
    gradients: Callable[[Arrays], list[Gradients]] | None, counted: list[int]
) -> Callable[[Arrays], list[Gradients]] | None:
    if gradients is None:
        return None

    def made(arrays: Arrays) -> list[Gradients]:
        found = gradients(arrays)
        counted.extend(one.rows for one in found)
        return found

    return made
