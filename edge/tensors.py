"""Arrays and sounds into the model's inputs, for bundles that take tensors.

Arrays are rows of an NPZ file and need no more than their type. A sound is opened when its micro-batch runs, as
pictures are, and becomes the samples that the model takes (`edge.sound`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Stack:
    """Samples that become tensors when their micro-batch runs."""

    samples: Sequence[Any]
    tensors: Tensors

    @property
    def truncated(self) -> int:
        """Arrays have the model's shape, and of a sound the beginning is meant."""
        return 0

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indexes: Sequence[int]) -> dict[str, Array]:
        """[len(indexes), ...] per model input."""
        rows = [self.tensors.row(self.samples[i]) for i in indexes]
        return {t.name: np.stack([row[t.name] for row in rows]) for t in self.tensors.inputs}


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
        if any(isinstance(s, (str, Path)) and Path(s).suffix != ".npz" for s in samples):
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
