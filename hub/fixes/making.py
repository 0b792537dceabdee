"""From what an agent found to a version with the fix on top, and from a version to the one without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from console.errors import HubError
from hub.fixes import gate
from hub.fixes.asking import bars_of
from hub.making import versions
from hub.rounds.state import Round
from hub.store.registry import Home
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.fixes import KEY, Report, read_report
from wire.messages import Edit

KIND: Literal["fix"] = "fix"


def make(home: Home, parent: versions.Made, number: int, state: Round) -> versions.Made:
    """The version in use with the fix that a round found on top of it.

    Raises:
        HubError: the fix does not pass its gate, with the number and the bar.
    """
    found, report = found_in(home, state)
    decision = gate.decide(report, bars_of(state.settings))
    if not decision.passed:
        raise HubError(decision.sentence)
    data = to_bytes(Adapter(found.model, edits=found.edits))
    edit = Edit(state.number, home.blobs.put(data), len(data))
    made = versions.with_edits(parent, number, state.number, (*parent.version.edits, edit), home.key)
    return replace(made, notes=(f"fix {state.number}: {decision.sentence}",))


def carried(home: Home, made: versions.Made, tip: versions.Made) -> versions.Made:
    """The version that work goes on from with the newest fix of another one: its gate saw that other one only."""
    edit, number = made.version.edits[-1], made.version.version + 1
    onto = versions.with_edits(tip, number, edit.fix, (*tip.version.edits, edit), home.key)
    said = f"fix {edit.fix} of version {made.version.version} is on top of this one too, where nobody has measured it"
    return replace(onto, notes=(said,))


def found_in(home: Home, state: Round) -> tuple[Adapter, Report]:
    """What the agent of a round found.

    Raises:
        HubError: nothing has come, or it was let go.
    """
    rows = home.ledger.updates(state.number, "edit")
    if not rows or rows[0]["dropped_at_s"] is not None:
        raise HubError(f"expected an edit that fix {state.number} found, found none; ask for it again")
    found = read_adapter(home.blobs.get(rows[0]["digest"]), f"the edit of fix {state.number}")
    return found, read_report(found.metadata.get(KEY), f"the edit of fix {state.number}")


def without(home: Home, made: versions.Made, fix: int, number: int) -> versions.Made | None:
    """A version without a fix: the one before it, byte for byte, where nothing else has changed since then.

    Args:
        home: the hub.
        made: the version.
        fix: the number of the fix.
        number: of a new version, where one is needed.

    Returns:
        A version of the ledger, or a new one; None: the version does not have that fix.
    """
    left = tuple(edit for edit in made.version.edits if edit.fix != fix)
    if left == made.version.edits:
        return None
    row = home.ledger.version(made.version.parent)
    before = None if row is None else versions.read_made(row)
    if before is not None and before.version.edits == left and _alike(before, made):
        return before
    new = versions.with_edits(made, number, 0, left, home.key)
    return replace(new, notes=(f"fix {fix} was taken off version {made.version.version}",))


def _alike(one: versions.Made, other: versions.Made) -> bool:
    """Whether two versions are the same but for their edits and for what every version has of its own."""
    own = {"version": 0, "parent": "", "parents": (), "round": 0, "edits": ()}
    return replace(one.version, **own) == replace(other.version, **own)  # type: ignore[arg-type]  # its own fields
