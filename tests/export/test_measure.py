"""Peaks in fresh processes: which options win, that equal graphs are measured once, and that figures are figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from console.errors import VerificationError
from devices.memory import MIB
from export.chain import PLAIN, Graph
from export.measure import CANDIDATES, Measurer, Peak, choose
from export.write import write_graphs
from tests.export.graphs import feeds, residual_mlp
from wire.manifest import Options

OTHER = replace(PLAIN, execution_order="default")
BOTH = (PLAIN, OTHER)


def peak(mib: float, step_s: float, options: Options) -> Peak:
    """Figures of a process."""
    return Peak(options, int(mib * MIB), 50 * MIB, 0, 0, step_s)


CHOICES = {
    "the lowest wins": ([peak(100, 1, PLAIN), peak(80, 9, OTHER)], OTHER),
    "within 5 % the faster wins": ([peak(84, 1, PLAIN), peak(80, 9, OTHER)], PLAIN),
    "beyond 5 % speed does not matter": ([peak(84.1, 1, PLAIN), peak(80, 9, OTHER)], OTHER),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choice(case: str) -> None:
    """Lowest peak first; of those within 5 % of it the fastest."""
    peaks, winner = CHOICES[case]
    assert choose(peaks).options == winner


def test_plain_options_are_the_reference() -> None:
    """The first candidate is the one that the others are compared with."""
    assert CANDIDATES[0] == PLAIN


def test_a_graph_is_measured_once(tmp_path: Path) -> None:
    """Equal graphs share their figures, which are those of a process that has loaded and run something."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_graphs({"g": residual_mlp()}, tmp_path / folder, "g.weights.bin")
    tried: list[int] = []
    measurer = Measurer(tmp_path, BOTH)
    taken = Graph(tmp_path / "one" / "g.onnx").feeds(feeds())
    first = measurer.best(tmp_path / "one" / "g.onnx", taken, lambda: tried.append(1))
    second = measurer.best(tmp_path / "two" / "g.onnx", taken, lambda: tried.append(1))
    assert first is second
    assert len(tried) == len(BOTH)
    assert first.options in BOTH
    assert 30 * MIB < first.base_bytes < first.peak_bytes < 150 * MIB
    assert 0 < first.base_anon_bytes < first.peak_anon_bytes < first.peak_bytes
    assert first.step_s > 0


def test_a_graph_that_does_not_run_is_refused(tmp_path: Path) -> None:
    """A graph without its weights fails in words."""
    write_graphs({"g": residual_mlp(width=24)}, tmp_path, "g.weights.bin")
    (tmp_path / "g.weights.bin").unlink()
    with pytest.raises(
        VerificationError, match=r"expected g.onnx to run with plain session options, but it stops .*External data"
    ):
        Measurer(tmp_path, BOTH).best(tmp_path / "g.onnx", feeds(width=24))
