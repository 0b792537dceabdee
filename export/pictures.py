"""Files of pictures as a model's input, made as boards make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, UsageError, join
from export.sources.captured import Captured, Values
from wire.image import Images
from wire.manifest import Preprocess, Tensor

INPUT = "pixel_values"


def opened(pictures: Sequence[Path], captured: Captured) -> Values:
    """Pictures resized, cut and normalised: float32 [pictures, channels, height, width], by the input's name.

    Raises:
        UsageError: the model takes no pictures.
        BadData: naming every picture that cannot be read.
    """
    if captured.modality != "image":
        raise UsageError(
            f"expected texts or arrays for {captured.name}, which says nothing of pictures, found pictures"
        )
    given = {key: value for key, value in captured.preprocess.parameters.items() if value is not None}
    shape = tuple(int(given[part]) for part in ("channels", "height", "width"))
    images = Images(Preprocess("image", (), given), (Tensor(INPUT, "float32", ("batch", *shape)),))
    tensors, problems = [], []
    for picture in pictures:
        tensor = _tensor(images, picture)
        if tensor is None:
            problems.append(str(picture))
        else:
            tensors.append(tensor)
    if problems:
        raise BadData(f"expected pictures, found files that are none: {join(problems)}; mend or remove them")
    return {INPUT: np.stack(tensors)}


def _tensor(images: Images, picture: Path) -> NDArray[Any] | None:
    """[channels, height, width]; None where the file is no picture."""
    try:
        return np.asarray(images.tensors([picture])[INPUT][0])
    except BadData:
        return None
