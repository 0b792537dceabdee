"""Files of pictures as a model's input, against transformers' own processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from console.errors import BadData, UsageError
from export.pictures import opened
from export.sources.captured import Captured


def drawn(path: Path, height: int, width: int) -> Path:
    """A picture of noise in large spots."""
    spots = np.random.default_rng(height).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(spots).resize((width, height)).save(path)
    return path


def test_pictures_are_made_as_transformers_makes_them(captured_vit: Captured, vit_folder: Path, tmp_path: Path) -> None:
    """Of other sizes than the model's, resized and normalised."""
    from transformers import AutoImageProcessor

    paths = [drawn(tmp_path / "a.png", 40, 24), drawn(tmp_path / "b.bmp", 16, 16)]
    found = opened(paths, captured_vit)["pixel_values"]
    processor = AutoImageProcessor.from_pretrained(vit_folder, use_fast=False)
    wanted = processor([Image.open(path).convert("RGB") for path in paths], return_tensors="np")["pixel_values"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_all_files_that_are_no_pictures_are_named(
    captured_vit: Captured, captured_bert: Captured, tmp_path: Path
) -> None:
    """Absent ones, other files, and pictures for a model of texts."""
    (tmp_path / "b.png").write_bytes(b"no picture")
    paths = [tmp_path / "a.png", drawn(tmp_path / "c.png", 8, 8), tmp_path / "b.png"]
    with pytest.raises(BadData, match=r"found files that are none: .*a\.png; .*b\.png; mend or remove them"):
        opened(paths, captured_vit)
    with pytest.raises(UsageError, match="which says nothing of pictures"):
        opened(paths, captured_bert)
