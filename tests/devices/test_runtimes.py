"""The oldest runtime of a fleet decides."""

from __future__ import annotations

import pytest

from console.errors import DoesNotFit
from devices.profile import load, names
from devices.runtimes import IR_VERSION, OPSET, opset_for, opset_of


def test_the_oldest_of_a_fleet_decides() -> None:
    """Versions are compared as numbers, and what is newer than our rules is not used."""
    assert opset_for(["1.31.1", "1.23.2", "1.9.0"][:2]).runtime == "1.23.2"
    assert (opset_for(["1.31.1"]).version, opset_for([]).ir_version) == (OPSET, IR_VERSION)
    with pytest.raises(DoesNotFit, match=r"opset 21 .*found onnxruntime 1\.9\.0, which runs less"):
        opset_for(["1.31.1", "1.9.0", "1.23.2"])
    with pytest.raises(DoesNotFit, match=r"found onnxruntime 1\.17\.3, which runs opset 20 at most"):
        opset_for(["1.17.3"])


def test_boards_whose_runtime_is_too_old_are_named() -> None:
    """All of them, each with its runtime; one whose runtime nobody names is not among them."""
    assert opset_of([("new", "1.31.1"), ("unknown", None), ("jetpack", "1.23.2")]).runtime == "1.22"
    with pytest.raises(DoesNotFit) as caught:
        opset_of([("loft", "1.17"), ("unknown", None), ("barn", "1.9.0"), ("new", "1.31.1")])
    assert "found onnxruntime 1.17, which runs opset 20 at most (loft) and" in str(caught.value)
    assert "and onnxruntime 1.9.0, which runs less (barn); leave those boards out" in str(caught.value)


def test_every_board_that_runs_an_agent_runs_our_graphs() -> None:
    """No shipped profile of an agent has a runtime that is too old."""
    runtimes = [load(name).onnxruntime_max for name in names() if load(name).agent == "yes"]
    assert opset_for([runtime for runtime in runtimes if runtime]).version == OPSET
