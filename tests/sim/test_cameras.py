from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sim.cameras import CAMERAS, Picture, blur, digits, enlarge, invert, rotate, share_cameras
from sim.pictures import png_bytes, write_pictures
from sim.recipes import CAMERAS as RECIPE


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """All digits."""
    return digits()


def test_all_digits_are_there_with_a_stable_split(pictures: list[Picture]) -> None:
    """1797 pictures of ten digits; the recipe's numbers are all of them; the same picture is never on both sides."""
    count = Counter(picture.split for picture in pictures)
    assert count == {"test": RECIPE.test_rows, "train": sum(RECIPE.train_rows)}
    assert count.total() == 1797
    assert {picture.label for picture in pictures} == set("0123456789")
    sides: dict[bytes, set[str]] = {}
    for picture in pictures:
        sides.setdefault(picture.pixels.tobytes(), set()).add(picture.split)
    assert all(len(side) == 1 for side in sides.values())


def test_enlarging_is_bilinear(pictures: list[Picture]) -> None:
    """The same as torch's bilinear interpolation with aligned pixel centres, rounded to bytes."""
    torch = pytest.importorskip("torch")
    from sklearn.datasets import load_digits

    small = load_digits().images[:50]
    grown = torch.nn.functional.interpolate(torch.from_numpy(small)[:, None], scale_factor=2, mode="bilinear")
    expected = grown[:, 0].numpy() * 255 / 16
    found = np.stack([enlarge(image) for image in small])
    assert np.abs(found - expected).max() <= 0.5 + 1e-9
    assert np.array_equal(found[7], pictures[7].pixels)


def test_inverting_and_rotating_are_exact(pictures: list[Picture]) -> None:
    """A negative adds up to white; four quarter turns are none; a quarter turn is the one that Pillow makes."""
    from PIL import Image, ImageOps

    pixels = pictures[3].pixels
    assert np.array_equal(invert(pixels), np.asarray(ImageOps.invert(Image.fromarray(pixels))))
    assert np.array_equal(rotate(pixels), np.asarray(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)))
    assert not np.array_equal(rotate(pixels), pixels)
    assert np.array_equal(rotate(rotate(rotate(rotate(pixels)))), pixels)


def test_blurring_is_gaussian_with_noise_of_the_stated_size(pictures: list[Picture]) -> None:
    """Averaged over many seeds the picture is scipy's Gaussian blur; one picture is off by noise of deviation 40."""
    ndimage = pytest.importorskip("scipy.ndimage")
    # in the middle of the range, so that clipping to bytes cuts off little of the noise
    pixels = (pictures[5].pixels // 16 + 120).astype(np.uint8)
    expected = ndimage.gaussian_filter(pixels.astype(np.float64), sigma=1.0, mode="nearest", truncate=2.0)
    seen = np.stack([blur(pixels, seed) for seed in range(2000)]).astype(np.float64)
    assert np.abs(seen.mean(axis=0) - expected).max() < 5  # 5 standard errors
    assert abs((seen - expected).std() - 40) < 1


def test_noise_follows_from_seed_and_picture(pictures: list[Picture]) -> None:
    """The same seed gives the same noise in any order; another seed or another picture gives another."""
    one, two = pictures[0].pixels, pictures[1].pixels
    assert np.array_equal(blur(one, 3), blur(one, 3))
    assert not np.array_equal(blur(one, 3), blur(one, 4))
    assert not np.array_equal(blur(one, 3), blur(two, 3))


def test_each_board_has_its_own_camera_and_its_own_digits(pictures: list[Picture]) -> None:
    """Training digits are on one board each, through one camera; the test set has all cameras, each digit once."""
    views = share_cameras(pictures, RECIPE.boards, RECIPE.train_rows)
    assert [{p.camera for p in held} for held in views.train.values()] == [{"blurred"}, {"inverted"}, {"rotated"}]
    assert {board: len(held) for board, held in views.train.items()} == RECIPE.train_rows_of
    names = [p.name for held in views.train.values() for p in held] + [p.name for p in views.test]
    assert len(set(names)) == len(names) == 1797
    assert max(Counter(p.camera for p in views.test).values()) <= RECIPE.test_rows // len(CAMERAS) + 1
    assert all(p.split == "test" for p in views.test)
    assert all({p.label for p in held} == set("0123456789") for held in views.train.values())


def test_pictures_are_written_as_png_with_their_rows(pictures: list[Picture], tmp_path: Path) -> None:
    """Every row names a PNG relative to its file, which holds the very pixels."""
    from PIL import Image

    chosen = share_cameras(pictures[:30], ["one"]).train["one"]
    path = write_pictures(tmp_path / "one", chosen)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["label"] for row in rows] == [picture.label for picture in chosen]
    for row, picture in zip(rows, chosen, strict=True):
        assert set(row) == {"image", "label"}
        with Image.open(path.parent / row["image"]) as image:
            assert (image.mode, image.format) == ("L", "PNG")
            assert np.array_equal(np.asarray(image), picture.pixels)


def test_enlarged_pngs_repeat_pixels(pictures: list[Picture]) -> None:
    """A picture for the report shows each pixel as a square."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(png_bytes(pictures[0].pixels, enlarged=3))) as image:
        shown = np.asarray(image)
    assert shown.shape == (48, 48)
    assert np.array_equal(shown[1::3, 1::3], pictures[0].pixels)
