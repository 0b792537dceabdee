"""Requests about versions: which one is served, and which one a name means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from console.errors import HubError
from hub import registry, show
from hub.conductor import Conductor, put_release
from hub.ledger import Row, put_tip
from hub.requests.fleet import status
from hub.service import Service


def _release(service: Service, request: Row) -> Row:
    conductor = conductor_of(service)
    digest = version_digest(service.home, conductor.model.id, str(request["version"]))
    with_head(service, digest)
    with service.home.ledger.transaction() as tx:
        put_release(tx, digest, "by hand", service.clock())
        put_tip(tx, conductor.model.id, digest)
    conductor.announce_release()
    return status(service, request)


def _import(service: Service, request: Row) -> Row:
    from hub.import_adapter import import_adapter

    conductor = conductor_of(service)
    found = import_adapter(service.home, Path(request["path"]), service.clock())
    conductor.announce_tip()
    return found


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


TABLE: dict[str, Callable[[Service, Row], Row]] = {"release": _release, "import": _import}
