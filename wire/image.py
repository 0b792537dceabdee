"""Pictures into tensors: Pillow resizes and cuts, numpy rescales and normalises."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError
from wire.manifest import Bucket, Preprocess, Tensor

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others start programs, or are hardly ever tested
PIXELS_LIMIT = 50_000_000  # 150 MB of RGB; a header of 100 bytes can ask for thousands of times as much
PIXELS_PER_BYTE, SMALL_PIXELS = 2000, 4 << 20  # an empty sky has a hundred per byte
_BROKEN = (OSError, ValueError, TypeError, KeyError, SyntaxError, EOFError)  # what Pillow's readers end with


@dataclass(frozen=True)
class Pictures:
    """Pictures that are opened when their micro-batch runs."""

    samples: Sequence[Any]
    images: Images

    @property
    def truncated(self) -> int:
        """A picture is resized, never cut short."""
        return 0

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indexes: Sequence[int]) -> dict[str, NDArray[Any]]:
        """float32 [len(indexes), channels, height, width]."""
        return self.images.tensors([self.samples[i] for i in indexes])


class Images:
    """What the manifest's `parameters` say (docs/bundle.md), in this order.

    Resize to `shortest_edge`, or to `resize_height` x `resize_width`, with the filter `resample`; cut in the centre
    to `height` x `width`; then `(pixel * rescale - mean) / std` for each of `channels`.

    Raises:
        IntegrityError: the model does not take one tensor [batch, channels, height, width].
    """

    def __init__(self, preprocess: Preprocess, inputs: Sequence[Tensor]) -> None:
        given = preprocess.parameters
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise IntegrityError(
                "expected one model input [batch, channels, height, width], found "
                f"{', '.join(f'{t.name} {list(t.shape)}' for t in inputs)}; this bundle is not for images"
            )
        self._name, shape = inputs[0].name, inputs[0].shape
        self._channels = int(given.get("channels", shape[1]))
        self._size = (int(given.get("height", shape[2])), int(given.get("width", shape[3])))
        self._edge = given.get("shortest_edge")
        self._resize = (int(given.get("resize_height", self._size[0])), int(given.get("resize_width", self._size[1])))
        self._rescale = np.float32(given.get("rescale", 1 / 255))
        self._mean, self._std = (
            np.asarray(given.get(key, default), np.float32).reshape(-1, 1, 1)
            for key, default in (("mean", 0.0), ("std", 1.0))
        )
        self._filter = str(given.get("resample", "bilinear")).upper()

    def prepare(self, samples: Sequence[Any], bucket: Bucket) -> Pictures:
        """Paths, bytes of files, Pillow images or uint8 arrays [height, width(, channels)]; nothing is opened yet."""
        return Pictures(samples, self)

    def tensors(self, samples: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Pictures as float32 [n, channels, height, width].

        Raises:
            BadData: a picture cannot be read.
        """
        out = np.zeros((len(samples), self._channels, *self._size), np.float32)
        for i, sample in enumerate(samples):
            out[i] = self._tensor(sample)
        return {self._name: out}

    def _tensor(self, sample: Any) -> NDArray[np.float32]:
        picture = self._fit(_opened(sample, _MODES[self._channels]))
        pixels = np.asarray(picture, np.float32).reshape(*self._size, self._channels)
        scaled: NDArray[np.float32] = (pixels.transpose(2, 0, 1) * self._rescale - self._mean) / self._std
        return scaled

    def _fit(self, picture: Picture) -> Picture:
        from PIL.Image import Resampling

        height, width = self._resize
        if self._edge is not None:
            ratio = int(self._edge) / min(picture.size)
            width, height = (max(int(self._edge), int(side * ratio)) for side in picture.size)
        if picture.size != (width, height):
            picture = picture.resize((width, height), resample=Resampling[self._filter])
        top, left = (height - self._size[0]) // 2, (width - self._size[1]) // 2
        if (top, left) != (0, 0) or picture.size != self._size[::-1]:
            picture = picture.crop((left, top, left + self._size[1], top + self._size[0]))
        return picture


def size_of(path: Path, *, whole: bool = False) -> tuple[int, int] | str:
    """Width and height of a picture, or what is wrong with it.

    Args:
        path: the file.
        whole: whether to decode every pixel; else the header is believed.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path, formats=FORMATS) as picture:
            _check_size(picture, path.stat().st_size)
            if whole:
                picture.load()
            width, height = picture.size
    except (*_BROKEN, PIL.Image.DecompressionBombError) as error:
        return f"expected a picture, found something else ({str(error)[:200]}); mend or remove it"
    return width, height


def _check_size(picture: Picture, size_bytes: int) -> None:
    """Before memory is taken for its pixels: what a header says, against a limit and against the file's own size."""
    width, height = picture.size
    if width * height > PIXELS_LIMIT:
        raise ValueError(f"it has {width} x {height} pixels, more than {PIXELS_LIMIT:,}; make it smaller")
    if width * height > max(SMALL_PIXELS, PIXELS_PER_BYTE * size_bytes):
        raise ValueError(f"it says that it has {width} x {height} pixels, which is more than its bytes can hold")


def _opened(sample: Any, mode: str) -> Picture:
    import PIL.Image

    try:
        if isinstance(sample, (str, Path, bytes)):
            source = io.BytesIO(sample) if isinstance(sample, bytes) else sample
            size = len(sample) if isinstance(sample, bytes) else Path(sample).stat().st_size
            with PIL.Image.open(source, formats=FORMATS) as file:
                _check_size(file, size)
                converted: Picture = file.convert(mode)
            return converted
        if not isinstance(sample, PIL.Image.Image):
            sample = PIL.Image.fromarray(np.asarray(sample, np.uint8))
        converted = sample.convert(mode)
    except (*_BROKEN, PIL.Image.DecompressionBombError) as error:
        found = "bytes" if isinstance(sample, bytes) else str(sample)[:200]
        raise BadData(f"expected a picture, found {found} ({error}); mend or remove it") from error
    return converted
