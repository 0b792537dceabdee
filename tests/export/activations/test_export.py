from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import EdgequiltError
from export.activations.golden import ROUNDED_TOLERANCE, tolerance
from export.cli import export, verify
from tests.export.activations.nets import BATCH, cnn, drawn, mlp, pictures
from tests.export.graphs import Builder

PLAIN = 1e-4


def arguments(folder: Path, *more: str) -> list[str]:
    """An export of the small convolutional net, without slots."""
    model = folder / "cnn.onnx"
    if not model.exists():
        ir.save(cnn(), model)
    return [str(model), "--mode", "serve", "--adapter-targets", "", "--budget", "400MiB", "--json", *more]


@pytest.mark.heavy
def test_a_bundle_of_integers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph without slots is exported with static integers: verified, smaller, and exact on every processor."""
    np.savez(tmp_path / "items.npz", x=pictures(20)["x"])
    out = tmp_path / "out"
    asked = arguments(tmp_path, "--quant", "int8-static", "--calibration", str(tmp_path / "items.npz"))
    assert export([*asked, "--out", str(out)]) == 0
    manifest = json.loads((out / "board" / "manifest.json").read_text(encoding="utf-8"))
    weights = manifest["quantization"]
    assert {entry["format"] for entry in weights} == {"int8-static"}
    assert sum(entry["bytes_after"] for entry in weights) < 0.35 * sum(entry["bytes_before"] for entry in weights)
    assert manifest["golden"]["relative_tolerance"] == PLAIN
    assert manifest["verified"]["integer_steps"] <= 1
    assert verify([str(out / "board"), "--trust", str(out / "keys" / "publisher.pub"), "--no-memory"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--quant", "int8-static"], "expected --calibration FILE for int8-static on board, found none"),
        (
            ["--quant", "int8", "--calibration", "FILE"],
            "expected --calibration beside --quant auto, int8-dynamic, int8-static or --scales gptq",
        ),
        (
            ["--quant", "int8-dynamic", "--calibration-method", "minmax"],
            "expected --calibration-method beside --quant int8-static",
        ),
        (["--quant", "int8-static", "--calibration", "absent.npz"], "absent.npz"),
        (["--quant", "int8-static", "--calibration", "items.bin"], "expected --calibration as .txt"),
        (["--quant", "int8-static", "--calibration", "WRONG"], "x of the shape"),
        (["--quant", "int8-static", "--calibration", "TEXTS"], "expected --calibration as .npz"),
        (["--quant", "auto", "--calibration", "WRONG"], "x of the shape"),
        (["--quant", "int4", "--scales", "gptq", "--calibration", "TEXTS"], "expected --calibration as .npz"),
    ],
)
def test_bad_calibration_is_refused_in_words(more: list[str], said: str, tmp_path: Path) -> None:
    """One sentence, and nothing is left behind."""
    np.savez(tmp_path / "items.npz", x=pictures(20)["x"])
    np.savez(tmp_path / "wrong.npz", x=drawn(20, 3, 8, 9))
    (tmp_path / "texts.txt").write_text("a text\nanother\n", encoding="utf-8")
    files = {"FILE": "items.npz", "WRONG": "wrong.npz", "TEXTS": "texts.txt"}
    given = [str(tmp_path / files[part]) if part in files else part for part in more]
    out = tmp_path / "out"
    with pytest.raises(EdgequiltError, match=said):
        export(arguments(tmp_path, *given, "--out", str(out)))
    assert not out.exists()


def test_golden_outputs_are_exact_where_nothing_can_tip_a_rounding() -> None:
    """Behind a sum whose order is the processor's, a rounding may go the other way: the bar is wider there."""
    b = Builder(1)
    x, step = b.input("x", [BATCH, 4]), b.weight("step", 1)
    q = b.op("QuantizeLinear", x, step, shape=[BATCH, 4], name="q")
    made = b.model(y=b.op("DequantizeLinear", q, step, shape=[BATCH, 4], name="d"))
    assert tolerance([made.graph], PLAIN) == PLAIN
    assert tolerance([mlp().graph], PLAIN) == PLAIN
    made.graph.append(ir.node("Softmax", [made.graph.outputs[0]], name="tips"))
    assert tolerance([made.graph], PLAIN) == ROUNDED_TOLERANCE
