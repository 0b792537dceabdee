"""What turns samples into input tensors: chosen by the manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from wire.bundle import Bundle
from wire.manifest import Bucket

Preprocessor = Callable[[Sequence[Any], Bucket], dict[str, NDArray[Any]]]


def preprocessor(bundle: Bundle) -> Preprocessor:
    """The preprocessor of a bundle: samples and a bucket in, one array per model input out.

    Raises:
        IntegrityError: the bundle's files or inputs do not belong to its kind.
    """
    manifest = bundle.manifest
    if manifest.preprocess.kind == "text":
        from edge.text import Text

        return Text(bundle.folder, manifest.preprocess, manifest.inputs)
    from edge.image import Images

    return Images(manifest.preprocess, manifest.inputs)
