"""Execution providers: what is asked for comes before the CPU, and what is not there is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from console.errors import UsageError
from edge.runner import Runner
from edge.runtime import CPU, Session, providers_of
from tests.edge.bundles import make_bundle
from tests.edge.test_gradients import pictures
from wire.bundle import open_bundle

OTHERS = [name for name in ort.get_available_providers() if name != CPU]
ABSENT = "QNNExecutionProvider"


def test_the_cpu_comes_last_and_once() -> None:
    """Whatever is asked, and however often."""
    assert providers_of(()) == [CPU]
    assert providers_of((CPU, CPU)) == [CPU]
    assert providers_of((*OTHERS, CPU, *OTHERS)) == [*OTHERS, CPU]


@pytest.mark.skipif(not OTHERS, reason="this onnxruntime has the CPU only")
def test_another_provider_is_really_in_the_session(tmp_path: Path) -> None:
    """A session that asks for one has it first, and what that does not take the CPU computes to the same bits."""
    make_bundle(tmp_path / "bundle", segments=(1, 1))
    bundle, samples = open_bundle(tmp_path / "bundle", None), pictures(3)
    graph = bundle.manifest.segments[0].graphs[0]
    session = Session(bundle.path(graph.file), graph, providers=(OTHERS[0],))
    assert session._session.get_providers() == [OTHERS[0], CPU]
    plain, other = Runner(bundle), Runner(bundle, providers=(OTHERS[0],))
    np.testing.assert_array_equal(other.forward(samples).features, plain.forward(samples).features)


def test_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The sentence names it, what there is instead, and where it was asked for."""
    make_bundle(tmp_path / "bundle", segments=(2,))
    with pytest.raises(UsageError, match=rf"expected {ABSENT} in onnxruntime .*{CPU}.*`providers` in agent.toml"):
        Runner(open_bundle(tmp_path / "bundle", None), providers=(ABSENT,)).forward(pictures(1))
