"""Importance as boards tell it: averaged by hand, kept with versions, the same after a kill, and told to people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from console.errors import HubError
from hub.making.importance import known_of
from hub.verbs.importance import text_of
from tests.faults import instants, survive
from tests.fuse import Fuse
from tests.hub.world import RANKS, World
from wire.importance.file import parse_importance, to_bytes
from wire.importance.standing import Known, after, file_of, mean
from wire.importance.told import text_of as told_text
from wire.record import read_record

MakeWorld = Callable[..., World]
SLOTS = ("layer.0.query", "layer.1.value")


def telling(make_world: MakeWorld, **told: dict[str, float]) -> World:
    """A world whose devices tell this of their slots."""
    world = make_world()
    for name, values in told.items():
        world.devices[name].importance = told_text(values)
    return world


def both(first: float, second: float) -> dict[str, float]:
    """Of the two slots."""
    return dict(zip(SLOTS, (first, second), strict=True))


def test_what_boards_tell_is_averaged_over_boards_and_rounds(make_world: MakeWorld) -> None:
    """After two rounds both measures are what their recursions give for the mean over those who tell."""
    world = telling(make_world, barn=both(1.0, 4.0), coop=both(3.0, 2.0))
    world.run("train")
    world.devices["barn"].importance = told_text(both(5.0, 3.0))
    world.run("train")

    found = world.ask("importance")

    one = found["importance"]["slots"][SLOTS[0]]
    # s = 2, then 4; b(1) = 0.6, and a fluctuation of a third raises it by 0.4 / 6
    assert one["hsplitlora"] == pytest.approx(2 + (0.6 + 0.4 / 6) * 2)
    s1, u1 = 0.15 * 2, 0.15 * (2 - 0.15 * 2)
    s2 = 0.85 * s1 + 0.15 * 4
    u2 = 0.85 * u1 + 0.15 * (4 - s2)
    assert one["fedpipe"] == pytest.approx(s2 * u2 / (1 - 0.85**2) ** 2)
    assert (one["count"], found["importance"]["stage"], found["importance"]["boards"]) == (2, 2, 2)
    assert (found["version"], found["planned_with"]) == (2, 1)
    # shares were 2/5 and 3/5, and are 3.333 and 2.683 of 6.017
    other = 3 - (0.6 + 0.4 / 22) * 0.5
    assert found["importance"]["slots"][SLOTS[1]]["hsplitlora"] == pytest.approx(other)
    assert found["moved"] == pytest.approx((10 / 3) / (10 / 3 + other) - 2 / 5)


def test_boards_that_hold_some_slots_tell_of_those(make_world: MakeWorld) -> None:
    """A slot's mean is over those who hold it, and its count over the rounds that knew it."""
    world = telling(make_world, barn={SLOTS[0]: 2.0}, coop=both(4.0, 8.0))
    world.run("train")
    world.devices["coop"].importance = ""
    world.run("train")
    found = world.ask("importance")["importance"]["slots"]
    assert found[SLOTS[1]] == {"hsplitlora": 8.0, "fedpipe": pytest.approx(8 * (8 - 1.2)), "count": 1}
    assert found[SLOTS[0]]["count"] == 2


def test_it_is_said_when_plans_are_too_old(make_world: MakeWorld) -> None:
    """Above the threshold the round and the verb advise to plan again, until the file is taken."""
    world = telling(make_world, barn=both(1.0, 1.0))
    assert "importance" not in world.run("train")["sentence"]
    world.devices["barn"].importance = told_text(both(9.0, 1.0))
    shown = world.run("train")
    (note,) = [n for n in world.ask("version", version="tip")["notes"] if "importance" in n]
    assert note in shown["sentence"]
    assert note.startswith("importance moved by 0.3")
    assert "since version 1, more than 0.1: plan again (edgequilt hub importance --out FILE" in note
    found = world.ask("importance")
    assert found["advice"] == note
    text = text_of(found)
    assert text.index(SLOTS[0]) < text.index(SLOTS[1])
    assert note in text

    world.ask("importance", take=True)

    again = world.ask("importance")
    assert (again["planned_with"], again["moved"], again["advice"]) == (2, 0.0, "")
    assert world.ask("importance", version="1")["version"] == 1


def test_what_is_not_asked_or_not_sound_changes_nothing(make_world: MakeWorld) -> None:
    """Updates count whatever they tell; other slots, other text, and what was not asked for are ignored."""
    world = telling(make_world, barn={"layer.9": 1.0})
    world.devices["coop"].importance = "{"
    assert world.run("train")["devices"] == 3
    with pytest.raises(HubError, match="expected a version whose boards told how much their slots matter"):
        world.ask("importance")
    world.devices["barn"].importance = told_text(both(1.0, 2.0))
    world.run("train", settings={"kinds": ["lora"], "trainer": "spry"})
    assert not world.devices["barn"].seen[max(world.devices["barn"].seen)].settings.get("importance")


def test_going_back_goes_back_to_what_was_known(make_world: MakeWorld) -> None:
    """Rounds after a rollback go on from what the earlier version knew."""
    world = telling(make_world, barn=both(1.0, 1.0))
    world.run("statistics")
    world.run("train")
    world.devices["barn"].importance = told_text(both(50.0, 1.0))
    world.run("train")
    world.ask("rollback", version="2")
    world.devices["barn"].importance = told_text(both(1.0, 1.0))
    world.run("train")
    found = world.ask("importance")["importance"]
    assert (found["stage"], found["slots"][SLOTS[0]]["hsplitlora"]) == (2, 1.0)


@pytest.mark.parametrize(("first", "step"), [(7, 67), pytest.param(1, 1, marks=pytest.mark.heavy)], ids=["some", "all"])
def test_a_killed_hub_knows_the_same(make_world: MakeWorld, first: int, step: int) -> None:
    """A hub killed at any of its writes ends with the importance of one that never was."""

    def story(world: World) -> None:
        for number in (1, 2):
            if world.hub.home.ledger.last_round() < number:
                world.ask("open", kind="train", devices=sorted(RANKS))
            world.settle()

    def told(world: World) -> dict[str, Any]:
        for name, device in world.devices.items():
            device.importance = told_text(both(1.0 + RANKS[name], 2.0))
        return {"known": None}

    calm = make_world()
    told(calm)
    survive(calm, None, story)
    wanted = calm.ask("importance")
    for instant in instants(first, step):
        world = make_world()
        told(world)
        kills = survive(world, Fuse(instant), story)
        assert world.ask("importance") == wanted, f"after a kill at instant {instant}"
        if kills == 0:
            break


def test_a_loud_board_is_bounded() -> None:
    """Of three boards or more, none counts more than ten times the middle one; of two both count as they are."""
    assert mean([2.0, 4.0, 1e9]) == pytest.approx((2 + 4 + 40) / 3)
    assert mean([2.0, 1e9]) == pytest.approx((2 + 1e9) / 2)


def test_the_file_is_what_the_planner_reads() -> None:
    """What is known becomes a file that its one reader takes."""
    known = after(after(Known(), {"a": [1.0, 3.0]}, 4), {"a": [2.0], "b": [1.0]}, 5)
    found = parse_importance(to_bytes(file_of(known, "tiny")), "a file")
    assert (found.source, found.stage, found.boards, found.slots["a"].count, found.slots["b"].count) == (
        "boards", 2, 1, 2, 1,
    )  # fmt: skip
    assert (known.version, known.first) == (5, 4)


def test_a_version_keeps_it_in_its_row(make_world: MakeWorld) -> None:
    """What a version knows is in the ledger with it, and is found from a later one that learned nothing of slots."""
    world = telling(make_world, barn=both(1.0, 2.0))
    world.run("train")
    world.run("statistics")
    home = world.hub.home
    rows = home.ledger.versions()
    assert [bool(row["metrics"].get("importance")) for row in rows] == [False, True, False]
    assert known_of(home, rows[2]["digest"]) == read_record(Known, rows[1]["metrics"]["importance"], "a row")
