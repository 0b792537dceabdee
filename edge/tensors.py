"""Arrays and sounds into the model's inputs, for bundles that take tensors.

Arrays are rows of an NPZ file and need no more than their type. A sound is opened when its micro-batch first runs and
becomes the samples that the model takes (`edge.sound`); those that are opened first are kept, up to a bound, since a
training run comes back to every one of them and resampling may take longer than a step of a small model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, join
from edge.arrays import read_arrays
from edge.data.wav import sound_length
from edge.sound import read_sound
from wire.manifest import Bucket, Preprocess, Tensor

Array = NDArray[Any]
KEPT_BYTES = 8 << 20  # of sounds that were opened: 131 seconds at 16 kHz


@dataclass(frozen=True)
class Stack:
    """Samples that become tensors when their micro-batch runs."""

    samples: Sequence[Any]
    tensors: Tensors
    kept_bytes: int = KEPT_BYTES
    kept: dict[int, dict[str, Array]] = field(default_factory=dict)

    @property
    def truncated(self) -> int:
        """Arrays have the model's shape, and of a sound the beginning is meant."""
        return 0

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indexes: Sequence[int]) -> dict[str, Array]:
        """[len(indexes), ...] per model input."""
        rows = [self._row(i) for i in indexes]
        return {t.name: np.stack([row[t.name] for row in rows]) for t in self.tensors.inputs}

    def _row(self, index: int) -> dict[str, Array]:
        """A sample's inputs; nothing that is kept is thrown out for another, which would come round no sooner."""
        if index in self.kept:
            return self.kept[index]
        sample = self.samples[index]
        row = self.tensors.row(sample)
        if is_sound(sample) and (len(self.kept) + 1) * sum(array.nbytes for array in row.values()) <= self.kept_bytes:
            self.kept[index] = row
        return row


def is_sound(sample: Any) -> bool:
    """Whether a sample is the path of a WAV file, not arrays and not of some."""
    return isinstance(sample, (str, Path)) and Path(sample).suffix != ".npz"


class Tensors:
    """`parameters` of the manifest (docs/bundle.md): `sampling_rate` in Hz and `normalize`, both for sounds only."""

    def __init__(self, preprocess: Preprocess, inputs: Sequence[Tensor]) -> None:
        rate = preprocess.parameters.get("sampling_rate")
        self.inputs = tuple(inputs)
        self._rate = int(rate) if isinstance(rate, (int, float)) else None
        self._normalise = bool(preprocess.parameters.get("normalize", False))

    def prepare(self, samples: Sequence[Any], bucket: Bucket) -> Stack:
        """Arrays by input name, each without the axis of rows, or paths: of NPZ files that hold such, or of WAV files.

        Raises:
            BadData: a sample is something else, or arrays are not the model's inputs.
        """
        problems = [f"sample {i}: {told}" for i, s in enumerate(samples) if (told := self._unfit(s)) is not None]
        if problems:
            raise BadData(f"expected samples that fit the model's inputs, but {join(problems)}; mend the data")
        if any(map(is_sound, samples)):
            sound_length(self.inputs)
        return Stack(samples, self)

    def _unfit(self, sample: Any) -> str | None:
        if isinstance(sample, (str, Path)):
            return None
        if not isinstance(sample, Mapping):
            return f"{type(sample).__name__} is neither arrays by name nor a WAV file"
        for tensor in self.inputs:
            shape = np.shape(sample[tensor.name]) if tensor.name in sample else None
            if shape is None:
                return f"{tensor.name} is absent"
            sides = zip(shape, tensor.shape[1:], strict=False)
            if len(shape) != len(tensor.shape) - 1 or any(isinstance(w, int) and g != w for g, w in sides):
                return f"{tensor.name} must be {list(tensor.shape[1:])}, not {list(shape)}"
        return None

    def row(self, sample: Any) -> dict[str, Array]:
        """The inputs of one sample, each without the axis of rows.

        Raises:
            BadData: a file cannot be read, or does not hold what the model takes.
        """
        if isinstance(sample, (str, Path)) and Path(sample).suffix == ".npz":
            path, sample = sample, read_arrays(Path(sample))
            if (told := self._unfit(sample)) is not None:
                raise BadData(f"expected arrays that fit the model's inputs in {path}, but {told}; mend the file")
        if isinstance(sample, Mapping):
            return {t.name: np.asarray(sample[t.name]).astype(t.dtype) for t in self.inputs}
        (tensor,) = self.inputs
        sound = read_sound(Path(sample), self._rate, sound_length(self.inputs), normalise=self._normalise)
        return {tensor.name: sound.reshape(tensor.shape[1:]).astype(tensor.dtype)}
