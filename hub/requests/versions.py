"""Requests about versions and deployments: which version is served, tried, taken back; and which one a name means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from console.errors import HubError, UsageError
from hub import deployment as d
from hub import registry, show, show_versions
from hub.conductor import Conductor, put_release
from hub.ledger import Row, put_tip
from hub.rollout import Rollout, lineage
from hub.service import Service


def _deploy(service: Service, request: Row) -> Row:
    """To all at once, or to a group on trial."""
    conductor = conductor_of(service)
    digest = version_digest(service.home, conductor.model.id, str(request["version"]))
    with_head(service, digest)
    group = str(request.get("group") or "")
    if not group:
        tip = service.home.ledger.tip(conductor.model.id)
        return _to_all(service, digest, "by hand", goes_on=digest in lineage(conductor, tip))
    against = version_digest(service.home, conductor.model.id, str(request.get("against") or "released"))
    if digest == against:
        raise HubError(
            f"expected a version other than the one that it is compared with, found {request['version']} twice"
        )
    promote = request.get("promote") or "auto"
    if promote not in ("auto", "manual"):
        raise UsageError(f"expected auto or manual promotion, found {promote!r}")
    state = rollout_of(service).begin(digest, against, group, members(service.home, group), promote)
    return show_versions.deployment_view(service.home, state.number)


def _promote(service: Service, request: Row) -> Row:
    return _decide(service, d.Promote())


def _rollback(service: Service, request: Row) -> Row:
    """A trial that is open, or all devices: to a version, or to what was in use before."""
    conductor, wanted = conductor_of(service), request.get("version")
    if wanted is None and rollout_of(service).open:
        return _decide(service, d.Back())
    model = conductor.model.id
    digest = version_digest(service.home, model, str(wanted)) if wanted is not None else _before(service, model)
    with_head(service, digest)
    return _to_all(service, digest, "rolled back by hand")


def _before(service: Service, model: str) -> str:
    before = show_versions.in_use_before(service.home, model)
    if before is None:
        raise HubError(
            "expected a version that was in use before, found none; name one: `edgequilt hub rollback VERSION`"
        )
    return before


def _to_all(service: Service, digest: str, why: str, *, goes_on: bool = False) -> Row:
    """Release a version to all; work goes on from it, unless it goes on from a later one already."""
    conductor = conductor_of(service)
    with service.home.ledger.transaction() as tx:
        put_release(tx, digest, why, service.clock())
        if not goes_on:
            put_tip(tx, conductor.model.id, digest)
    conductor.announce_tip()
    conductor.announce_release()
    rollout_of(service).tick()  # a trial ends when something else is released
    return show_versions.version_view(service.home, digest)


def _decide(service: Service, event: d.Promote | d.Back) -> Row:
    rollout = rollout_of(service)
    if not rollout.open:
        raise HubError("expected an open deployment, found none; see `edgequilt hub deployment list`")
    number = next(iter(rollout.open))
    rollout.tell(number, event)
    return show_versions.deployment_view(service.home, number)


def _import(service: Service, request: Row) -> Row:
    from hub.import_adapter import import_adapter

    conductor = conductor_of(service)
    found = import_adapter(service.home, Path(request["path"]), service.clock())
    conductor.announce_tip()
    return found


def _versions(service: Service, request: Row) -> Row:
    return {"versions": show_versions.version_lines(service.home, conductor_of(service).model.id)}


def _version(service: Service, request: Row) -> Row:
    digest = version_digest(service.home, conductor_of(service).model.id, str(request["version"]))
    return show_versions.version_view(service.home, digest)


def _deployments(service: Service, request: Row) -> Row:
    return {"deployments": show_versions.deployment_lines(service.home, conductor_of(service).model.id)}


def _deployment(service: Service, request: Row) -> Row:
    return show_versions.deployment_view(service.home, int(request["deployment"]))


def members(home: registry.Home, group: str) -> list[str]:
    """The devices of a group, or those that are named with commas between them.

    Raises:
        HubError: there are none.
    """
    rows = home.ledger.devices()
    found = [row["name"] for row in rows if group in (row.get("groups") or ())]
    if found:
        return found
    named = [name.strip() for name in group.split(",")]
    unknown = [name for name in named if name not in {row["name"] for row in rows}]
    if unknown:
        raise HubError(
            f"expected a group or names of enrolled devices, found {', '.join(unknown)}; see `edgequilt hub status`"
        )
    return named


def version_digest(home: registry.Home, model: str, wanted: str) -> str:
    """The digest of a version of a model that is named by number, `tip` or `released`.

    Raises:
        HubError: there is none of that name.
    """
    release = home.ledger.release(model)
    names: dict[str, str] = {str(row["number"]): row["digest"] for row in home.ledger.versions(model)}
    names["tip"] = home.ledger.tip(model)
    if release is not None:
        names["released"] = release["digest"]
    if wanted not in names:
        raise HubError(f"expected a version among {', '.join(names)}, found {wanted!r}")
    return names[wanted]


def with_head(service: Service, digest: str) -> None:
    """Check that a version can tell classes apart, where the model has a head.

    Raises:
        HubError: it has no head yet.
    """
    named = show.named(service.home.ledger.version(digest))
    if named is not None and not named["has_head"] and conductor_of(service).model.features:
        raise HubError(
            f"expected a version with a head, found that version {named['version']} has none; open a statistics "
            f"round first"
        )


def conductor_of(service: Service) -> Conductor:
    """Who conducts the rounds.

    Raises:
        HubError: there is no model yet.
    """
    if service.conductor is None:
        raise HubError("expected a model, found none; add a bundle with `edgequilt hub add BUNDLE`")
    return service.conductor


def rollout_of(service: Service) -> Rollout:
    """Who conducts the deployments.

    Raises:
        HubError: there is no model yet.
    """
    if service.rollout is None:
        raise HubError("expected a model, found none; add a bundle with `edgequilt hub add BUNDLE`")
    return service.rollout


TABLE: dict[str, Callable[[Service, Row], Row]] = {
    "deploy": _deploy,
    "promote": _promote,
    "rollback": _rollback,
    "import": _import,
    "versions": _versions,
    "version": _version,
    "deployments": _deployments,
    "deployment": _deployment,
}
