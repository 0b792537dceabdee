"""What a run makes is counted before it begins, all of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from console.errors import StorageError
from devices.flash.space import before_placing, before_unpacking, require_space


def test_all_copies_count(tmp_path: Path) -> None:
    """Half of what is free holds an image, and a file made of it; not both and more, and not two images of more."""
    free = shutil.disk_usage(tmp_path).free
    before_unpacking(tmp_path, None, free // 2, 1)
    before_unpacking(tmp_path, tmp_path, free // 3, 1)
    with pytest.raises(StorageError, match="for the unpacked image and .* for the file of --to"):
        before_unpacking(tmp_path, tmp_path, int(free * 0.6), 1)
    with pytest.raises(StorageError, match="for the unpacked image and .* for a copy for each card"):
        before_unpacking(tmp_path, None, int(free * 0.6), 2)


def test_two_disks_have_room_of_their_own(tmp_path: Path) -> None:
    """The file of --to may lie on another disk than the folder of --work."""
    other = Path("/dev/shm")
    if other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one disk holds both")
    here, there = shutil.disk_usage(tmp_path).free, shutil.disk_usage(other).free
    most = (tmp_path, int(here * 0.6), "the unpacked image")
    require_space([most, (other, int(there * 0.6), "the file of --to")])
    with pytest.raises(StorageError, match="free at /dev/shm"):
        require_space([most, (other, there * 2, "the file of --to")])
    small = tmp_path / "image"
    small.write_bytes(b"x" * 4096)
    with pytest.raises(StorageError, match="free at /dev/shm"):
        before_placing(tmp_path, other, small, grows=0, size=there * 2, copied=True)


def test_holes_take_no_room(tmp_path: Path) -> None:
    """Once it is unpacked, an image takes what it takes; a root that grows is copied once."""
    image, huge = tmp_path / "image", shutil.disk_usage(tmp_path).free * 2
    with image.open("wb") as file:
        file.write(b"x" * 4096)
        file.truncate(huge)
    before_placing(tmp_path, None, image, grows=4096, size=huge, copied=True)
    with pytest.raises(StorageError, match="for its larger root"):
        before_placing(tmp_path, None, image, grows=huge, size=huge, copied=False)
    with pytest.raises(StorageError, match="for the file of --to"):
        before_placing(tmp_path, tmp_path, image, grows=0, size=huge, copied=False)
