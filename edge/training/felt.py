"""How much each slot matters to a board's own loss: measured beside its steps, told beside its update.

HSplitLoRA's product of gradient and weight (arXiv 2505.02795) on the factors that learn; see `wire.importance.told`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge.trainers.ghost import mean_of
from edge.trainers.interface import Array, Arrays, Gradients, Rows
from edge.training.task import Score, Task
from wire.adapter import Adapter
from wire.importance.told import KEY, mean_over_steps, sensitivity, text_of
from wire.manifest import Manifest

STEPS = 8  # the last ones, which are told


def tag_of(told: Mapping[str, float]) -> dict[str, str]:
    """As metadata of an update; nothing where nothing is told."""
    return {KEY: text_of(told)} if told else {}


def sensitivities(manifest: Manifest, arrays: Arrays, gradients: Arrays) -> dict[str, float]:
    """Of every slot whose two factors have a gradient.

    Args:
        manifest: of the bundle.
        arrays: the factors, by graph input.
        gradients: of the mean loss of a step's rows, by graph input.
    """
    slots = [s for s in manifest.slots_of("lora") if s.a in arrays and s.a in gradients and s.b in gradients]
    return {s.name: sensitivity(arrays[s.a], gradients[s.a], arrays[s.b], gradients[s.b]) for s in slots}


class Remembered:
    """What the last steps said of the slots of a bundle."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._last: deque[dict[str, float]] = deque(maxlen=STEPS)

    def note(self, arrays: Arrays, gradients: Arrays) -> None:
        """One step: see `sensitivities`."""
        self._last.append(sensitivities(self._manifest, arrays, gradients))

    @property
    def told(self) -> dict[str, float]:
        """The mean of each slot over them."""
        return mean_over_steps(self._last)


class Felt:
    """A task that remembers what the gradients of its last steps said of its slots; otherwise as it was.

    Args:
        task: with backward graphs.
        manifest: of the bundle.
    """

    def __init__(self, task: Task, manifest: Manifest) -> None:
        self._task, self._remembered = task, Remembered(manifest)

    def __len__(self) -> int:
        return len(self._task)

    @property
    def truncated(self) -> int:
        """As of the task."""
        return self._task.truncated

    @property
    def told(self) -> dict[str, float]:
        """See `Remembered`."""
        return self._remembered.told

    def start(self) -> dict[str, Array]:
        """As of the task."""
        return self._task.start()

    def rows(self, chosen: Sequence[int]) -> Rows:
        """As of the task; its gradients are looked at in passing."""
        rows = self._task.rows(chosen)
        made = rows.gradients
        if made is None:
            return rows

        def gradients(arrays: Arrays) -> list[Gradients]:
            parts = made(arrays)
            self._remembered.note(arrays, mean_of(parts)[1])
            return parts

        return replace(rows, gradients=gradients)

    def score(self, arrays: Arrays) -> Score | None:
        """As of the task."""
        return self._task.score(arrays)

    def adapter(self, arrays: Arrays) -> Adapter:
        """As of the task."""
        return self._task.adapter(arrays)
