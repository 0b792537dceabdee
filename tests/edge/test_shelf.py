"""Which bundle an agent uses: no word of the hub that is older than one it has heard brings another one back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge.shelf import Shelf
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
    assert shelf.follow(replace(NEW, sequence=7))
    assert shelf.wanted("") is not None
