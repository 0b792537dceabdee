"""What turns samples into input tensors: chosen by the manifest.

Texts are cheap to keep and their tokenizer is not, pictures are the other way round. So texts are encoded all at
once, and pictures are opened when their micro-batch runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from wire.bundle import Bundle
from wire.manifest import Bucket

Tensors = dict[str, NDArray[Any]]


class Prepared(Protocol):
    """Samples on their way into the model."""

    @property
    def truncated(self) -> int:
        """How many of them lost their end because they are longer than the bucket."""

    def __len__(self) -> int:
        """How many."""

    def take(self, indexes: Sequence[int]) -> Tensors:
        """The model's inputs [len(indexes), ...] of some of them."""


@dataclass(frozen=True)
class Part:
    """Some of prepared samples, in an order of its own."""

    samples: Prepared
    chosen: tuple[int, ...]

    @property
    def truncated(self) -> int:
        """How many lost their end, among all that this is a part of."""
        return self.samples.truncated

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, indexes: Sequence[int]) -> Tensors:
        """The model's inputs of some of the part."""
        return self.samples.take([self.chosen[i] for i in indexes])


class Preprocessor(Protocol):
    """Prepares samples for a bucket."""

    def prepare(self, samples: Sequence[Any], bucket: Bucket) -> Prepared:
        """Samples in, prepared samples out.

        Raises:
            BadData: a sample is not what the bundle takes.
        """


def preprocessor(bundle: Bundle, frugal: bool) -> Preprocessor:
    """The preprocessor of a bundle; a frugal one trades time for memory.

    Raises:
        IntegrityError: the bundle's files or inputs do not belong to its kind.
    """
    manifest = bundle.manifest
    if manifest.preprocess.kind == "text":
        from edge.text import Texts

        return Texts(bundle.folder, manifest.preprocess, manifest.inputs, frugal)
    if manifest.preprocess.kind == "tensors":
        from edge.tensors import Tensors as Arrays

        return Arrays(manifest.preprocess, manifest.inputs)
    from wire.image import Images

    return Images(manifest.preprocess, manifest.inputs)
