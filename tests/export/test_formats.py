"""Formats through the command: smaller bundles that verify, settings that reach them, bad input in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import EdgequiltError, UnsupportedModel, UsageError, VerificationError
from export.build import build, twin
from export.cli import export, verify
from export.formats.grid import Grid
from export.formats.registry import STORED
from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.verify import check_smaller, check_twins
from export.write import write_graphs
from tests.export.graphs import Builder, feeds, residual_mlp
from tests.export.test_verify import WIDE, written
from wire.bundle import open_bundle
from wire.envelope import Trust
from wire.keys import read_public_key
from wire.manifest import Manifest

LINES = {
    "fp32": ["--quant", "fp32"],
    "auto": [],
    "fp16": ["--quant", "fp16"],
    "int8": ["--quant", "int8"],
    "int8-blocks": ["--quant", "int8-blocks", "--block", "16"],
    "int4": ["--quant", "int4", "--zero-points", "--scales", "hqq"],
    "nf4": ["--quant", "nf4", "--nested-scales"],
    "fp4": ["--quant", "fp4", "--block", "32", "--keep", "*query*=int4"],
}


def exported(folder: Path, model: Path, *more: str) -> tuple[Manifest, int]:
    """A training bundle by the command, verified by the command; its manifest, and the bytes of its weights."""
    labels = folder / "labels.txt"
    labels.write_text("cat\ndog\n")
    out = folder / "out"
    line = [str(model), "--task", "text-classification", "--labels", str(labels), "--sequence", "9"]
    assert export([*line, "--device", "raspberry-pi-4-2gb", "--rank", "2", "--out", str(out), "--json", *more]) == 0
    bundle, trusted = out / "raspberry-pi-4-2gb", out / "keys" / "publisher.pub"
    assert verify([str(bundle), "--trust", str(trusted), "--no-memory", "--json"]) == 0
    manifest = open_bundle(bundle, Trust([read_public_key(trusted, "publisher")])).manifest
    return manifest, sum(file.bytes for file in manifest.files if file.path.endswith("weights.bin"))


@pytest.fixture(scope="module")
def plain_bytes(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Of the weights in float32."""
    return exported(tmp_path_factory.mktemp("plain"), bert_folder, *LINES["fp32"])[1]


@pytest.mark.heavy
@pytest.mark.parametrize("what", [name for name in LINES if name != "fp32"])
def test_a_bundle_in_every_format(
    what: str, bert_folder: Path, plain_bytes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It trains and serves, its weights are smaller than in float32, and the manifest names every weight's format."""
    manifest, size = exported(tmp_path, bert_folder, *LINES[what])
    capsys.readouterr()
    assert size < 0.8 * plain_bytes  # small tensors are in whole pages
    formats = {w["name"]: w["format"] for w in manifest.quantization}
    kinds = set(formats.values()) - {"fp32"}
    wanted = {"nf4": {"nf4", "int8"}, "fp4": {"fp4", "int8", "int4"}, "int8-blocks": {"int8-blocks", "int8"}}
    assert kinds == wanted.get(what, {what}) or (what == "auto" and kinds <= {"fp16", "int8", "int8-blocks", "int4"})
    instead = [w for w in manifest.quantization if w["format"] == "int8" and what in {"nf4", "fp4", "int8-blocks"}]
    assert all(f"{what} has no table" in w["reason"] for w in instead)
    reasons = manifest.plan.extra["reasons"]
    assert what == "fp32" or any(reason.startswith("formats on raspberry-pi-4-2gb: ") for reason in reasons)


@pytest.mark.parametrize("fmt", STORED)
def test_constant_channels_and_zeros(fmt: str, tmp_path: Path) -> None:
    """A weight of zeros, one with a channel of zeros and one with constant channels are restored in both directions."""
    exact, values = residual_mlp(width=WIDE), feeds(width=WIDE)
    odd = np.random.default_rng(2).standard_normal((WIDE, WIDE)).astype(np.float32)
    odd[:, 3], odd[:16, 5] = 0.0, 0.0
    constant = np.broadcast_to(np.linspace(-1, 1, WIDE, dtype=np.float32), (WIDE, WIDE)).copy()
    for at, weight in enumerate((np.zeros((WIDE, WIDE), np.float32), odd, constant)):
        name = f"layer.{at}.weight"
        exact.graph.initializers[name].const_value = ir.tensor(weight, name=name)
    grid = Grid(block=16)
    [piece] = build(exact, [], "train", fmt, Stock(grid))
    for kind in ("forward", "backward"):
        model = twin(piece.exact[kind], piece.shipped[kind], piece.reports[kind], grid)
        restored = model.graph.initializers["layer.1.weight"].const_value
        zeros = model.graph.initializers["layer.0.weight"].const_value
        assert restored is not None
        assert zeros is not None
        assert not zeros.numpy().any()
        assert not restored.numpy()[:, 3].any()
        graphs = written({"shipped": piece.shipped[kind], "twin": model}, tmp_path / kind)
        assert check_twins(graphs["shipped"], graphs["twin"], values, "a graph") <= 1e-5


@pytest.mark.parametrize("fmt", STORED)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_no_numbers(fmt: str, wrong: float) -> None:
    """NaN and infinity are refused in every format, with the name of the weight and the way out."""
    model = residual_mlp(width=WIDE)
    weight = np.ones((WIDE, WIDE), np.float32)
    weight[3, 4] = wrong
    model.graph.initializers["layer.1.weight"].const_value = ir.tensor(weight, name="layer.1.weight")
    said = f"cannot store the weight layer.1.weight as {fmt}: expected .* --keep layer.1.weight=fp32"
    with pytest.raises(UnsupportedModel, match=said):
        quantize_weights(model, fmt, Stock(Grid(block=16)))


def test_a_block_that_does_not_divide() -> None:
    """The weight gets int8 instead, and the report says why; a block that no format has is refused."""
    model = residual_mlp(width=WIDE)
    reports = quantize_weights(model, "int4", Stock(Grid(block=128)))
    assert {(r.format, r.reason) for r in reports} == {
        ("int8", f"its rows of {WIDE} are no multiple of the block of 128 that int4 has; int8 instead")
    }
    with pytest.raises(UsageError, match="expected a --block of 16, 32, 64 or 128, found 48"):
        Grid(block=48)


def test_weights_that_did_not_shrink() -> None:
    """Weights that are as large as before are no quantized ones."""
    check_smaller(99, 100, "int4")
    with pytest.raises(VerificationError, match="in int4 to take less than 100 bytes as in float32, found 100"):
        check_smaller(100, 100, "int4")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--block", "48"], "expected a --block of 16, 32, 64 or 128, found 48"),
        (["--keep", "layer"], "expected --keep PATTERN=FORMAT with one of fp32, .*found 'layer'"),
        (["--keep", "*=int3"], "expected --keep PATTERN=FORMAT with one of fp32, .*found '\\*=int3'"),
        (["--quant", "int8", "--keep", "nothing*=int4"], "'?nothing\\*'? matches none of 2 layers"),
        (["--quant", "int4", "--keep", "conv=int4"], "conv'? cannot be '?int4'?, only fp32, fp16, int8"),
    ],
)
def test_settings_that_fit_nothing(more: list[str], said: str, tmp_path: Path) -> None:
    """One sentence each, and nothing is left behind."""
    b = Builder(1)
    x = b.input("x", [1, 4, 8, 8])
    y = b.op("Conv", x, b.weight("conv", 32, 4, 3, 3), shape=[1, 32, 6, 6], name="seen")
    flat = b.op("GlobalAveragePool", y, shape=[1, 32, 1, 1], name="mean")
    rows = b.op("Transpose", flat, shape=[1, 1, 1, 32], name="rows", perm=[0, 2, 3, 1])
    model = b.model(y=b.op("MatMul", rows, b.weight("last", 32, 40), shape=[1, 1, 1, 40], name="out"))
    write_graphs({"net": model}, tmp_path, "net.bin")
    out = tmp_path / "out"
    with pytest.raises(EdgequiltError, match=said):
        export([str(tmp_path / "net.onnx"), "--device", "raspberry-pi-4-2gb", "--out", str(out), "--json", *more])
    assert not out.exists()
