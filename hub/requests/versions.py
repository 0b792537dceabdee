"""Requests about versions and deployments: which version is served, tried, taken back; and which one a name means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from console.errors import HubError, UsageError
from hub.deployments import deployment as d
from hub.deployments.rollout import lineage
from hub.rounds.conductor import put_release
from hub.serving.desk import Desk
from hub.show import rounds as show_rounds
from hub.show import versions as show_versions
from hub.store import registry
from hub.store.ledger import Row
from hub.store.names import version_digest
from hub.store.writes import put_tip


def _deploy(desk: Desk, request: Row) -> Row:
    """To all at once, or to a group on trial."""
    conductor = desk.conductor
    digest = version_digest(desk.home, conductor.model.id, str(request["version"]))
    with_head(desk, digest)
    group = str(request.get("group") or "")
    if not group:
        tip = desk.home.ledger.tip(conductor.model.id)
        return _to_all(desk, digest, "by hand", goes_on=digest in lineage(conductor, tip))
    against = version_digest(desk.home, conductor.model.id, str(request.get("against") or "released"))
    if digest == against:
        raise HubError(
            f"expected a version other than the one that it is compared with, found {request['version']} twice"
        )
    promote = request.get("promote") or "auto"
    if promote not in ("auto", "manual"):
        raise UsageError(f"expected auto or manual promotion, found {promote!r}")
    state = desk.rollout.begin(digest, against, group, members(desk.home, conductor.model.id, group), promote)
    return show_versions.deployment_view(desk.home, state.number)


def _promote(desk: Desk, request: Row) -> Row:
    return _decide(desk, d.Promote())


def _rollback(desk: Desk, request: Row) -> Row:
    """A trial that is open, or all devices: to a version, or to what was in use before."""
    conductor, wanted = desk.conductor, request.get("version")
    if wanted is None and desk.rollout.open:
        return _decide(desk, d.Back())
    model = conductor.model.id
    digest = version_digest(desk.home, model, str(wanted)) if wanted is not None else _before(desk, model)
    with_head(desk, digest)
    return _to_all(desk, digest, "rolled back by hand")


def _before(desk: Desk, model: str) -> str:
    before = show_versions.in_use_before(desk.home, model)
    if before is None:
        raise HubError(
            "expected a version that was in use before, found none; name one: `edgequilt hub rollback VERSION`"
        )
    return before


def _to_all(desk: Desk, digest: str, why: str, *, goes_on: bool = False) -> Row:
    """Release a version to all; work goes on from it, unless it goes on from a later one already."""
    conductor = desk.conductor
    with desk.home.ledger.transaction() as tx:
        put_release(tx, digest, why, desk.clock())
        if not goes_on:
            put_tip(tx, conductor.model.id, digest)
    conductor.announce_tip()
    conductor.announce_release()
    desk.rollout.tick()  # a trial ends when something else is released
    return show_versions.version_view(desk.home, digest)


def _decide(desk: Desk, event: d.Promote | d.Back) -> Row:
    rollout = desk.rollout
    if not rollout.open:
        raise HubError("expected an open deployment, found none; see `edgequilt hub deployment list`")
    number = next(iter(rollout.open))
    rollout.tell(number, event)
    return show_versions.deployment_view(desk.home, number)


def _import(desk: Desk, request: Row) -> Row:
    from hub.making.import_adapter import import_adapter

    conductor = desk.conductor
    found = import_adapter(desk.home, Path(request["path"]), desk.clock(), desk.model.id)
    conductor.announce_tip()
    return found


def _versions(desk: Desk, request: Row) -> Row:
    return {"versions": show_versions.version_lines(desk.home, desk.conductor.model.id)}


def _version(desk: Desk, request: Row) -> Row:
    digest = version_digest(desk.home, desk.conductor.model.id, str(request["version"]))
    return show_versions.version_view(desk.home, digest)


def _deployments(desk: Desk, request: Row) -> Row:
    return {"deployments": show_versions.deployment_lines(desk.home, desk.conductor.model.id)}


def _deployment(desk: Desk, request: Row) -> Row:
    return show_versions.deployment_view(desk.home, int(request["deployment"]))


def members(home: registry.Home, model: str, group: str) -> list[str]:
    """The devices of a model that are in a group, or those that are named with commas between them.

    Raises:
        HubError: there are none, or one of another model.
    """
    rows = [row for row in home.ledger.devices() if row["model"] in ("", model)]  # empty: it has not said hello yet
    found = [row["name"] for row in rows if group in (row["groups"] or ())]
    if found:
        return found
    named = [name.strip() for name in group.split(",")]
    unknown = [name for name in named if name not in {row["name"] for row in rows}]
    if unknown:
        raise HubError(
            f"expected a group or names of enrolled devices with {model}, found {', '.join(unknown)}; see "
            f"`edgequilt hub status`"
        )
    return named


def with_head(desk: Desk, digest: str) -> None:
    """Check that a version can tell classes apart, where the model has a head.

    Raises:
        HubError: it has no head yet.
    """
    named = show_rounds.named(desk.home.ledger.version(digest))
    if named is not None and not named["has_head"] and desk.conductor.model.features:
        raise HubError(
            f"expected a version with a head, found that version {named['version']} has none; open a statistics "
            f"round first"
        )


TABLE: dict[str, Callable[[Desk, Row], Row]] = {
    "deploy": _deploy,
    "promote": _promote,
    "rollback": _rollback,
    "import": _import,
    "versions": _versions,
    "version": _version,
    "deployments": _deployments,
    "deployment": _deployment,
}
