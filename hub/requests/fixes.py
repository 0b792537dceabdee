"""Requests about fixes: find one and send it out, take one back, look at them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from console.errors import HubError
from hub.fixes import asking
from hub.fixes.making import KIND, without
from hub.making.versions import Made, read_made
from hub.requests.versions import with_head
from hub.rounds.boards import boards_of
from hub.rounds.conductor import put_release
from hub.rounds.following import served_ranks
from hub.rounds.state import Round, Seat
from hub.serving.desk import Desk
from hub.show import fixes as show_fixes
from hub.store import schema as t
from hub.store.ledger import Row
from hub.store.registry import put_version
from hub.store.writes import put_row, put_tip
from wire.manifest import parse_manifest

MOST_EDITS = 64  # on top of one version


def _fix(desk: Desk, request: Row) -> Row:
    """Ask a server agent for a fix of the version in use; what passes the gate is released."""
    home, conductor, model = desk.home, desk.conductor, desk.conductor.model
    manifest = parse_manifest(home.ledger.bundles(model.id)[0]["manifest"], "a bundle in the ledger")
    settings = asking.settings_of(request, model, manifest.preprocess.kind)
    _free(desk)
    used = _used(desk)
    settings["ranks"] = _ranks(desk, used)
    device, deadline_s = _agent(desk, str(request.get("device") or "")), home.config.rounds.deadline_s
    state = Round(
        number=home.ledger.last_round() + 1,
        kind=KIND,
        versions=(used.digest,),
        settings=settings,
        quorum=1,
        deadline_s=deadline_s,
        deadline_at_s=desk.clock() + deadline_s,
        candidate=False,
        seats=(Seat(device),),
        model=model.id,
    )
    conductor.begin(state)
    return show_fixes.fix_view(home, state.number)


def _used(desk: Desk) -> Made:
    """The version in use.

    Raises:
        HubError: there is none, it has no head, or there are many fixes on top of it.
    """
    release = desk.home.ledger.release(desk.model.id)
    if release is None:
        raise HubError("expected a version in use, found none; make one with a statistics round first")
    with_head(desk, release["digest"])
    used = desk.conductor.made(release["digest"])
    if len(used.version.edits) >= MOST_EDITS:
        raise HubError(
            f"expected fewer than {MOST_EDITS} fixes on top of the version in use, found {len(used.version.edits)}; "
            f"train on the right answers, or undo some with `edgequilt hub fix --undo ID`"
        )
    return used


def _ranks(desk: Desk, used: Made) -> list[int]:
    """The ranks that boards serve at; only 0 while no direction carries anything, since all prefixes are alike."""
    first = read_made(desk.home.ledger.versions(desk.model.id)[0])
    return [0] if used.version.rungs == first.version.rungs else served_ranks(desk.home, desk.model.id)


def _agent(desk: Desk, wanted: str) -> str:
    """The agent that computes it: one of profile `server` that is online, or the one that is named."""
    able = [board for board in boards_of(desk.home, desk.model.id) if KIND in board.jobs and not board.quarantine]
    online = [board.name for board in able if board.online and wanted in ("", board.name)]
    if online:
        return online[0]
    named = f" named {wanted}" if wanted else ""
    found = f"{len(able)} that {'is' if len(able) == 1 else 'are'} not online or not named so" if able else "none"
    raise HubError(
        f"expected a server agent{named} that is online and computes fixes, found {found}; export a bundle for the "
        f"profile server, and start the hub with `edgequilt hub up FOLDER --server-agent agent.toml`"
    )


def _free(desk: Desk) -> None:
    """Check that nothing is under way that makes or tries another version.

    Raises:
        HubError: a round or a trial is.
    """
    busy = [state.number for state in desk.conductor.open.values() if state.kind != "evaluate"]
    if busy:
        raise HubError(
            f"expected no open round that makes a version, found round {busy[0]}; wait for it, or stop it with "
            f"`edgequilt hub round stop {busy[0]}`"
        )
    if desk.rollout.open:
        raise HubError(
            f"expected no version on trial, found deployment {next(iter(desk.rollout.open))}; end it with `edgequilt "
            f"hub promote` or `edgequilt hub rollback`"
        )


def _undo(desk: Desk, request: Row) -> Row:
    """Take a fix off the version in use, and off the one that work goes on from."""
    fix, by, home, conductor = int(request["fix"]), str(request.get("by") or "")[:64], desk.home, desk.conductor
    _free(desk)
    model = conductor.model.id
    release, tip = home.ledger.release(model), home.ledger.tip(model)
    number = home.ledger.versions(model)[-1]["number"] + 1
    used = None if release is None else without(home, conductor.made(release["digest"]), fix, number)
    number += used is not None and used.version.version == number
    ahead = (
        used if release is not None and tip == release["digest"] else without(home, conductor.made(tip), fix, number)
    )
    if used is None and ahead is None:
        raise HubError(f"expected a fix on top of the version in use, found {fix}; see `edgequilt hub fix --list`")
    why = f"fix {fix} undone" + (f" by {by}" if by else "")
    with home.ledger.transaction() as tx:
        for made in {m.digest: m for m in (used, ahead) if m is not None}.values():
            _put_new(tx, desk, made)
        if used is not None:
            put_release(tx, used.digest, why, desk.clock())
        if ahead is not None:
            put_tip(tx, model, ahead.digest)
        put_row(tx, t.events, {"at_s": desk.clock(), "round": fix, "device": None, "text": why})
    conductor.announce_tip()
    conductor.announce_release()
    return show_fixes.fix_view(home, fix)


def _put_new(tx: Connection, desk: Desk, made: Made) -> None:
    """Keep a version that the ledger does not have yet."""
    if desk.home.ledger.version(made.digest) is None:
        put_version(tx, made, 0, desk.clock())


def _fixes(desk: Desk, request: Row) -> Row:
    return {"fixes": show_fixes.fix_lines(desk.home, desk.conductor.model.id)}


def _shown(desk: Desk, request: Row) -> Row:
    return show_fixes.fix_view(desk.home, int(request["fix"]))


TABLE: dict[str, Callable[[Desk, Row], Row]] = {"fix": _fix, "fix_undo": _undo, "fixes": _fixes, "fix_shown": _shown}
