"""What does not fit is refused with what would do, of the boards that the command knows."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from console.errors import DoesNotFit
from devices.memory import MIB, Need
from devices.profile import FOLDER, load
from export.cli import export
from tests.export.graphs import Builder

FIXED = Need(0, 0).total
WIDTH = 2048  # a layer of 16 MiB in float32
ZERO = "raspberry-pi-zero-2w"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of 16 MiB."""
    b = Builder(1)
    h = b.input("x", [1, WIDTH])
    for name in ("first", "second"):
        h = b.op("MatMul", h, b.weight(f"{name}.weight", WIDTH, WIDTH), shape=[1, WIDTH], name=name)
    path = tmp_path_factory.mktemp("wide") / "wide.onnx"
    ir.save(b.model(y=h), path)
    return path


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boards of the user's own: `tiny` has too little for a layer, `small` enough for one, `roomy` for both."""
    folder = tmp_path_factory.mktemp("profiles")
    text = (FOLDER / f"{ZERO}.toml").read_text()
    available = str(load(ZERO).memory_available_bytes.value)
    spelled = f"{int(available):_}"
    assert spelled in text
    for name, room in (("tiny", 8), ("small", 24), ("roomy", 60)):
        size = (FIXED + room * MIB + (32 << 20)) * 100 // 85
        (folder / f"{name}.toml").write_text(text.replace(ZERO, name).replace(spelled, str(size)))
    return folder


def refused(*words: object) -> str:
    """What an export that does not fit says."""
    with pytest.raises(DoesNotFit) as caught:
        export([str(word) for word in words])
    return str(caught.value)


def test_one_board(wide: Path, profiles: Path, tmp_path: Path) -> None:
    """The smallest board of the user's folder that holds a layer is named, before the larger ones of ours."""
    line = [wide, "--out", tmp_path / "out", "--quant", "fp32", "--adapter-targets", "", "--profiles", profiles]
    said = refused(*line, "--device", "tiny")
    assert "16.0 MiB of weights" in said
    assert "; of the known boards small and larger ones would do; try a --budget of " in said
    assert not (tmp_path / "out").exists()


def test_a_chain(wide: Path, profiles: Path, tmp_path: Path) -> None:
    """Of two boards of which one is too small, one is named that would do in its place, with what takes the room."""
    line = [wide, "--out", tmp_path / "out", "--quant", "fp32", "--adapter-targets", "", "--profiles", profiles]
    said = refused(*line, "--across", "small,tiny")
    assert "board 2, tiny, has a budget of" in said
    assert "in the piece at second: beside the runtime 16.0 MiB of weights" in said
    assert "; of the known boards small and larger ones would do in its place; try --budget tiny=" in said
