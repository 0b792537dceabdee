"""The memory model against workloads that had no part in its constants: a prediction that misses fails here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bench.memory_judge import FORMATS, PLAIN_ONLY, judge
from export.measure import CANDIDATES
from tests.workloads.registry import WORKLOADS, Workload
from wire.manifest import Options

pytestmark = pytest.mark.heavy


@dataclass(frozen=True)
class Case:
    """A workload, what it is exported for, and how."""

    workload: str
    mode: str = "serve"
    formats: tuple[str, ...] = FORMATS
    candidates: tuple[Options, ...] = PLAIN_ONLY
    segments: int = 1
    sizes: tuple[tuple[str, int], ...] = ()

    def taken(self) -> Workload:
        """The workload with the sizes of this case."""
        found = next(workload for workload in WORKLOADS if workload.name == self.workload)
        return replace(found, sizes={**found.sizes, **dict(self.sizes)})


CASES = {
    "a convolutional net with a float front end": Case("audio"),
    "a residual net at 256 pixels": Case("resnet-256", formats=("fp32",)),
    "a residual net of another exporter": Case("light-resnet50"),
    "convolutions with skip connections": Case("unet", formats=("fp32",), candidates=CANDIDATES),
    "a vision transformer that learns": Case("vit", "train"),
    "a vision transformer that learns, in two segments": Case("vit", "train", segments=2),
    "shifted windows under every set of options": Case("swin", formats=("int8",), candidates=CANDIDATES),
    "an encoder of text that learns": Case("bert", "train"),
    "a decoder with caches": Case("qwen3"),
    "a float front end, with 4 bits behind it, under every set of options": Case(
        "audio", formats=("int4",), candidates=CANDIDATES
    ),
    "an encoder of text that learns, in 4 bits": Case("bert", "train", formats=("int4", "nf4")),
    "halves that some options make whole": Case("vit", formats=("fp16",), candidates=CANDIDATES[3:]),
    "an encoder with a decoder": Case("t5"),
    "a recurrent net over many steps": Case("lstm", formats=("fp32",), sizes=(("steps", 256), ("batch", 8))),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sources are built once."""
    return tmp_path_factory.mktemp("judged")


@pytest.mark.parametrize("name", CASES)
def test_a_prediction_holds(name: str, folder: Path) -> None:
    """Every graph is within 10 % of what lies above the runtime base or 4 MiB; one at least takes 40 MiB above it."""
    case = CASES[name]
    given: dict[str, Any] = {"formats": case.formats, "candidates": case.candidates, "segments": case.segments}
    verdicts = list(judge(case.taken(), case.mode, folder, **given))
    assert {verdict.quant for verdict in verdicts if verdict.judged}, "nothing is large enough to be judged"
    assert [verdict.row() for verdict in verdicts if not verdict.holds] == []
