"""Split training with the real hub, real agents and real workers: what two halves learn, and tails that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hub.split_farm import farm
from wire.kinds.head import Head
from wire.kinds.lora import Lora

pytestmark = pytest.mark.heavy
TOLD: dict[str, Any] = {"settings": {"steps": 3, "batch": 4, "learning_rate": 0.05, "head": True}}


def near(one: dict[str, Lora], other: dict[str, Lora]) -> bool:
    """Whether two ladders are the same products, up to float32."""
    return one.keys() == other.keys() and all(
        np.abs(one[n].product() - other[n].product()).max() < 1e-4 * np.abs(other[n].product()).max() for n in one
    )


def alike(one: dict[int, Head], other: dict[int, Head]) -> bool:
    """Whether heads at all ranks are the same, up to what float32 makes of sums."""
    return one.keys() == other.keys() and all(
        np.abs(one[r].weight - other[r].weight).max() < 1e-3 * np.abs(other[r].weight).max() for r in one
    )


def test_fronts_of_two_depths_learn_what_whole_boards_learn(tmp_path: Path) -> None:
    """Fronts with a tail, beside a whole board, make the version and the head of whole boards; thin halves count."""
    with farm(tmp_path / "whole", {"barn": 0, "coop": 0, "mill": 0}, ()) as whole:
        assert whole.run(**TOLD)["state"] == "complete"
        wanted = whole.ladder()
        assert whole.run("statistics")["state"] == "complete"
        heads = whole.heads()
    with farm(tmp_path / "split", {"barn": 1, "coop": 2, "mill": 0}) as made:
        taught = made.run(**TOLD, split={"coding": "float32"})
        assert taught["state"] == "complete", taught
        assert {n: s.get("halves") for n, s in taught["per_device"].items()} == {
            "barn": ["front", "tail"],
            "coop": ["front", "tail"],
            "mill": None,
        }
        assert near(made.ladder(), wanted)
        found = made.run("statistics")
        assert found["state"] == "complete", found
        assert {s["state"] for s in found["per_device"].values()} == {"arrived"}
        assert alike(made.heads(), heads)
        thin = made.run(**TOLD, recipe={"thin": "int8"})
        assert {s["state"] for s in thin["per_device"].values()} == {"arrived"}
        rows = [made.hub.home.ledger.updates(one["round"]) for one in (taught, thin)]
        sizes = [{(row["device"], row["kind"]): row["bytes"] for row in some} for some in rows]
        assert {of for of, size in sizes[1].items() if size < 0.9 * sizes[0][of]} == {
            (n, "adapter") for n in made.depths
        }


def test_a_front_that_runs_forward_only_learns_beside_others(tmp_path: Path) -> None:
    """It says that it can, gets a tail, and its half is taken in like that of a front that goes back."""
    settings = {**TOLD["settings"], "steps": 8, "directions": 16}
    with farm(tmp_path, {"barn": 1, "coop": 2}, forward=("coop",)) as made:
        before = made.ladder()
        found = made.run(settings=settings)
        assert found["state"] == "complete", found
        assert [s["halves"] for s in found["per_device"].values()] == [["front", "tail"]] * 2
        rows = made.hub.home.ledger.updates(1)
        metrics = {row["device"]: row["metrics"] for row in rows if row["kind"] == "adapter"}
        assert metrics["coop"]["loss_last"] < metrics["coop"]["loss_first"]
        after = made.ladder()
        assert all(np.abs(after[n].product() - before[n].product()).max() > 1e-3 for n in after)


@pytest.mark.chaos
def test_a_tail_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """Killed in the middle of a round, its boards go on with another; what was receipted is in the version."""
    with farm(tmp_path, {"barn": 1, "coop": 2}, ("tail-1", "tail-2")) as made:
        number = made.ask("open", kind="train", settings={**TOLD["settings"], "steps": 40})["round"]
        tails = {n: s["tail"] for n, s in made.show(number)["per_device"].items()}
        assert set(tails.values()) == {"tail-1", "tail-2"}
        victim = tails["barn"]
        made.wait(lambda: any((job.get("done") or 0) > 2 for job in made.cores[victim].status.jobs.values()))
        made.kill(victim)
        made.wait(lambda: not made.hub.open_rounds)

        found = made.show(number)
        assert found["state"] == "complete", found
        assert found["per_device"]["barn"]["moved"] >= 1
        rows = {(row["device"], row["kind"]) for row in made.hub.home.ledger.updates(number)}
        assert rows == {(board, kind) for board in ("barn", "coop") for kind in ("adapter", "tail")}


@pytest.mark.chaos
def test_a_lone_tail_that_starts_again_has_its_boards_again(tmp_path: Path) -> None:
    """A tail that was killed and is back has forgotten where it was: its boards begin anew with it, and finish."""
    with farm(tmp_path, {"barn": 1}) as made:
        number = made.ask("open", kind="train", settings={**TOLD["settings"], "steps": 30})["round"]
        made.wait(lambda: any((job.get("done") or 0) > 2 for job in made.cores["tail-1"].status.jobs.values()))
        made.kill("tail-1")
        made.start("tail-1")
        made.wait(lambda: not made.hub.open_rounds)

        found = made.show(number)
        assert found["state"] == "complete", found
        seat = found["per_device"]["barn"]
        assert (seat["halves"], seat["tail"]) == (["front", "tail"], "tail-1")
        assert 1 <= seat["moved"] <= 4
        assert "r1.2-train-barn" in {row["job"] for row in made.hub.home.ledger.updates(number)}
