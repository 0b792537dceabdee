"""Which bundle an agent uses: no word of the hub that is older than one it has heard brings another one back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge.shelf import MOST_FETCHES, MOST_PROOFS, Shelf
from wire.messages import Assignment

NEW = Assignment("barn-1", 5, "toy-1", "5" * 64, ("hub:8884",))


def test_an_older_assignment_is_never_followed(tmp_path: Path) -> None:
    """Only a higher sequence is taken note of, also after a restart, however well the replay is signed."""
    shelf, older = Shelf(tmp_path), replace(NEW, sequence=4, bundle="4" * 64)
    assert shelf.follow(NEW)
    assert not shelf.follow(NEW)
    assert not shelf.follow(older)
    again = Shelf(tmp_path)
    assert not again.follow(older)
    assert again.wanted("") == NEW
    assert again.follow(replace(older, sequence=6))
    wanted = Shelf(tmp_path).wanted("5" * 64)
    assert wanted is not None
    assert wanted.bundle == "4" * 64


def test_an_assignment_that_failed_is_not_tried_for_ever(tmp_path: Path) -> None:
    """What could not be taken is left until the hub says it anew; a restart does not forget that."""
    shelf = Shelf(tmp_path)
    shelf.follow(NEW)
    shelf.give_up(NEW, "its golden values differ")
    assert Shelf(tmp_path).wanted("") is None
    assert Shelf(tmp_path).kept.untold  # until the hub has heard it
    assert shelf.follow(replace(NEW, sequence=7))
    assert shelf.wanted("") is not None


def test_what_takes_the_agent_down_is_not_begun_for_ever(tmp_path: Path) -> None:
    """Each part is counted by itself and across starts, until something is calm or another assignment comes."""
    Shelf(tmp_path).follow(NEW)
    for what, most in (("proofs", MOST_PROOFS), ("fetches", MOST_FETCHES)):
        assert [Shelf(tmp_path).attempt(what) for _ in range(most)] == [""] * most  # type: ignore[arg-type]  # one of them
        assert f"found the agent cut off {most} times" in Shelf(tmp_path).attempt(what)  # type: ignore[arg-type]
    Shelf(tmp_path).calm()
    assert not Shelf(tmp_path).attempt("proofs")
    assert (Shelf(tmp_path).kept.proofs, Shelf(tmp_path).kept.fetches) == (1, 0)
    Shelf(tmp_path).follow(replace(NEW, sequence=6))
    assert Shelf(tmp_path).kept.proofs == 0


def test_three_unhealthy_starts_lead_back_to_the_bundle_before(tmp_path: Path) -> None:
    """The fourth start has the former bundle, and the assignment is given up; one that became healthy stays."""
    shelf = Shelf(tmp_path)
    shelf.follow(replace(NEW, sequence=4, bundle="4" * 64))
    shelf.switch("4" * 64)
    assert not shelf.on_trial  # there is nothing to go back to
    shelf.follow(NEW)
    shelf.switch(NEW.bundle)
    found = []
    for _ in range(5):
        again = Shelf(tmp_path)
        again.begin()
        found.append(again.kept.current[:1])
    assert found == ["5", "5", "5", "4", "4"]
    assert Shelf(tmp_path).wanted("4" * 64) is None
    assert "was not healthy in 3 starts" in Shelf(tmp_path).kept.failed

    shelf = Shelf(tmp_path)
    shelf.follow(replace(NEW, sequence=6))
    shelf.switch(NEW.bundle)
    shelf.begin()
    shelf.keep()
    for _ in range(5):
        again = Shelf(tmp_path)
        again.begin()
    assert (again.kept.current, again.on_trial) == (NEW.bundle, False)
