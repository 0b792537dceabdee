"""The choice of a trainer, as a table: memory, graphs, tiers and steps in, a trainer and reasons out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from console.errors import DoesNotFit
from edge.training.auto import Choice, Facts, Run, choose, directions_needed, facts_of
from edge.training.tiers import Offer, offers
from tests.edge.test_gradients import runner
from wire.manifest import Manifest

MIB = 1 << 20
HEAD, BIAS = Offer("head", 0, False, True, 3850), Offer("bias", 0, True, False, 768)
ONE, EIGHT = Offer("rank 1", 1, False, False, 3072), Offer("rank 8", 8, False, False, 24576)
ALL = Facts(
    (BIAS, ONE, HEAD, EIGHT),
    backward=(Run(8, 200 * MIB), Run(2, 120 * MIB)),
    forward=(Run(8, 90 * MIB),),
    scales=(Run(8, 95 * MIB),),
    scale_count=500,
    rows=1000,
    steps=600,
    budget_bytes=512 * MIB,
)

TABLE = {
    "all fits": (ALL, "backprop", 8, 0, "200.0 MiB of the 512.0 MiB"),
    "a smaller micro-batch fits": (replace(ALL, budget_bytes=150 * MIB), "backprop", 2, 0, "2 rows takes 120.0 MiB"),
    "just": (replace(ALL, budget_bytes=120 * MIB), "backprop", 2, 0, "120.0 MiB of the 120.0 MiB"),
    "memory is not known": (replace(ALL, budget_bytes=None), "backprop", 8, 0, "not known"),
    "only forward fits": (replace(ALL, budget_bytes=100 * MIB), "spry", 8, 31, "takes 120.0 MiB, and 100.0 MiB"),
    "no backward graph": (replace(ALL, backward=()), "spry", 8, 31, "no backward graph"),
    "few steps, few parameters": (replace(ALL, backward=(), steps=72), "spry", 8, 64, "for bias (768 parameters)"),
    "too few steps for the smallest": (replace(ALL, backward=(), steps=50), "qzo", 8, 60, "500 scales"),
    "and no scales": (replace(ALL, backward=(), scales=(), steps=50), "ridge", 8, 0, "what is left is the head"),
    "and scales do not fit": (
        replace(ALL, backward=(), budget_bytes=92 * MIB, steps=50),
        "ridge",
        8,
        0,
        "93 directions in each of 50",
    ),
    "only a head is asked for": (replace(ALL, tiers=(HEAD,)), "ridge", 8, 0, "only the head is to learn"),
    "no head": (replace(ALL, tiers=(EIGHT,)), "backprop", 8, 0, "200.0 MiB"),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_choice_is_that_of_the_table(name: str) -> None:
    """Each row of the table: trainer, micro-batch, directions, and a phrase of why."""
    facts, trainer, batch, directions, phrase = TABLE[name]
    found = choose(facts)
    assert (found.trainer, found.micro_batch, found.directions) == (trainer, batch, directions)
    assert phrase in " ".join(found.reasons)
    assert all(reason.endswith(".") for reason in found.reasons)


def test_scales_are_a_tier_of_their_own() -> None:
    """What QZO trains are the scales, all of them, and no factors."""
    (offer,) = choose(replace(ALL, backward=(), steps=50)).tiers
    assert (offer.name, offer.parameters, offer.rank, offer.head) == ("scales", 500, 0, False)


def test_forward_passes_train_small_tiers_only() -> None:
    """What Spry may train are the tiers with enough directions, never the head; backpropagation may train all."""
    assert choose(replace(ALL, backward=())).tiers == (BIAS, ONE)
    assert choose(ALL).tiers == (BIAS, ONE, EIGHT)
    assert directions_needed(ONE.parameters, 600) * 600 >= 6 * ONE.parameters


@pytest.mark.parametrize(
    ("facts", "phrase"),
    [
        (replace(ALL, budget_bytes=80 * MIB), "80.0 MiB free, and 90.0 MiB is what the smallest forward graph takes"),
        (replace(ALL, tiers=(EIGHT,), backward=(), scales=()), "no head to solve"),
        (Facts((HEAD,)), "no forward graph"),
    ],
)
def test_a_board_that_can_run_no_trainer_is_told_so(facts: Facts, phrase: str) -> None:
    """Nothing fits, or nothing is left: the sentence has the numbers."""
    with pytest.raises(DoesNotFit) as problem:
        choose(facts)
    assert phrase in str(problem.value)


def _with(manifest: Manifest, numbers: dict[tuple[str, str, str], tuple[int, int | None]]) -> Manifest:
    """The manifest with memory figures by segment, kind and bucket."""

    def told(segment: str, kind: str, bucket: str) -> tuple[int, int | None]:
        return numbers.get((segment, kind, bucket), (1, None))

    return replace(
        manifest,
        segments=tuple(
            replace(
                s,
                graphs=tuple(
                    replace(
                        g,
                        memory=replace(
                            g.memory,
                            predicted_bytes=told(s.name, g.kind, g.bucket)[0],
                            measured_bytes=told(s.name, g.kind, g.bucket)[1],
                        ),
                    )
                    for g in s.graphs
                ),
            )
            for s in manifest.segments
        ),
    )


def test_a_bucket_takes_what_its_most_demanding_segment_takes(tmp_path: Path) -> None:
    """Measured figures before predicted ones, the largest over segments, and serving buckets train nothing."""
    manifest = _with(
        runner(tmp_path, segments=(1, 1), micro_batch=2, forward_batch=4).manifest,
        {
            ("segment0", "forward", "train"): (50, None),
            ("segment0", "backward", "train"): (70, 90),
            ("segment1", "backward", "train"): (80, None),
            ("segment1", "forward", "serve"): (40, 30),
        },
    )
    found = facts_of(manifest, offers(manifest), 10, 20, 100)
    assert found.backward == (Run(2, 90),)
    assert found.forward == (Run(2, 50), Run(4, 30))
    chosen: Choice = choose(found)
    assert (chosen.trainer, chosen.micro_batch) == ("backprop", 2)
