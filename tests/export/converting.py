"""What tests of `edgequilt adapter convert` share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.cli_adapter import main
from tests.edge.bundles import make_bundle
from wire.adapter import Adapter, to_bytes
from wire.bundle import Bundle, open_bundle


def two_segments(folder: Path) -> Bundle:
    """A bundle of two segments with slots of both kinds, and graphs without."""
    make_bundle(folder / "bundle", segments=(1, 1), biases=True, serve=True)
    return open_bundle(folder / "bundle", None)


def written(adapter: Adapter, folder: Path) -> Path:
    """An adapter as a file of ours."""
    path = folder / "adapter.safetensors"
    path.write_bytes(to_bytes(adapter))
    return path


def convert(source: Path, bundle: Bundle, to: str, out: Path, *more: str) -> None:
    """The command."""
    assert main(["convert", str(source), "--bundle", str(bundle.folder), "--to", to, "--out", str(out), *more]) == 0


def same(one: Adapter, other: Adapter) -> None:
    """Two adapters hold the same numbers."""
    assert one.lora.keys() == other.lora.keys()
    assert one.bias.keys() == other.bias.keys()
    for name, factors in one.lora.items():
        np.testing.assert_array_equal(factors.a, other.lora[name].a)
        np.testing.assert_array_equal(factors.b, other.lora[name].b)
        assert factors.scale == pytest.approx(other.lora[name].scale)
    for name, delta in one.bias.items():
        np.testing.assert_array_equal(delta, other.bias[name])
