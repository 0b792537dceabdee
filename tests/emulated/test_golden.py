"""The agent's own code and runtime on three kinds of arm64 cores, beside the same on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from export.cli import export
from tests.conftest import ROOT
from tests.emulated.debian import debian
from tests.emulated.release import wheels
from tests.emulated.user import CORES, Cpu, User
from tests.export.activations.nets import BATCH, cnn, pictures
from tests.programs import qemu_user
from wire.keys import new_key, write_key

pytestmark = pytest.mark.boot
# x86 without VNNI adds pairs of products in 16 bits; for a board of that kind weights stay within 7 bits
BOARD = "raspberry-pi-4-2gb" if "vnni" in Path("/proc/cpuinfo").read_text() else "server"
# By format and net: relative to the largest output; 0: the same bits. Convolutions of integers hand integers on to the
# end. What a product of integers makes is scaled and given its bias in float32: rounded once by cores that do both in
# one instruction, twice by others.
BARS = {
    "int8-static convolutions": 0.0,
    "int8-static": 2.0**-22,
    "int8-dynamic": 2.0**-22,
    "fp32": 1e-6,
}
SCRIPT = Path(__file__).with_name("proving.py")


@dataclass(frozen=True)
class Made:
    """Bundles of small nets, and what this machine makes of some pictures."""

    arguments: tuple[Path, ...]
    here: dict[str, np.ndarray]
    items: Path

    def run(self, out: Path) -> tuple[str, ...]:
        """What the script is told."""
        out.mkdir()
        keys, *bundles = self.arguments
        return tuple(map(str, (SCRIPT, keys, self.items, out, *bundles)))


def outputs(folder: Path) -> dict[str, np.ndarray]:
    """What the script wrote, by bundle."""
    return {path.stem: next(iter(np.load(path).values())) for path in folder.iterdir()}


def convolutions() -> ir.Model:
    """The same net without its last layer, a product: its output [4, 64] is what the last convolution makes."""
    made = cnn()
    *_, flat, last = made.graph
    made.graph.outputs[0] = flat.outputs[0]
    made.graph.remove(last, safe=False)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small net in three formats, exported by the command; all are right on this machine."""
    qemu_user()
    folder = tmp_path_factory.mktemp("golden")
    np.savez(folder / "calibration.npz", x=pictures(20)["x"])
    np.savez(folder / "items.npz", x=pictures(BATCH, seed=1)["x"])
    key = new_key("publisher", "tester")
    write_key(key, folder)
    for name in BARS:
        fmt, _, cut = name.partition(" ")
        ir.save(convolutions() if cut else cnn(), folder / f"{name}.onnx")
        told = [folder / f"{name}.onnx", "--mode", "serve", "--adapter-targets", "", "--device", BOARD, "--quant", fmt]
        more = ["--calibration", folder / "calibration.npz"] if fmt == "int8-static" else []
        told += [*more, "--key", folder / "tester.key", "--out", folder / name, "--json"]
        assert export(list(map(str, told))) == 0
    it = Made((folder / "tester.pub", *(folder / name / BOARD for name in BARS)), {}, folder / "items.npz")
    done = subprocess.run([sys.executable, *it.run(folder / "here")], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    it.here.update(outputs(folder / "here"))
    return it


@pytest.mark.parametrize("cpu", CORES)
def test_the_golden_inference(cpu: Cpu, made: Made, tmp_path: Path) -> None:
    """Static int8 gives the bits that it gives here; what has float32 in it differs by roundings only."""
    user = User(tmp_path, debian(), wheels(), cpu)
    done = user.python(*made.run(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    said, found = json.loads(done.stdout), outputs(tmp_path / "out")
    assert said["machine"] == "aarch64"
    assert said["apart"].keys() == found.keys() == BARS.keys()
    apart = {n: float(np.abs(found[n] - made.here[n]).max() / np.abs(made.here[n]).max()) for n in BARS}
    assert all(len(np.unique(found[n])) > 10 and apart[n] <= bar for n, bar in BARS.items()), apart
