"""Requests about what a hub keeps: letting go what nobody needs, and forgetting a board."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console.errors import HubError
from hub.making.forgetting import Without, heads_without, trained_in
from hub.rounds.conductor import put_release
from hub.serving.desk import Desk
from hub.serving.service import Service
from hub.store import schema as t
from hub.store.collecting import collect, of_versions
from hub.store.ledger import Row
from hub.store.registry import put_version
from hub.store.writes import forget_device, put_row, put_tip


def _collect(service: Service, request: Row) -> Row:
    return collect(service.home, service.clock(), dry_run=bool(request.get("dry_run")))


def _forget(service: Service, request: Row) -> Row:
    """Forget what a board sent and said: all in one transaction, then the files."""
    name, home = str(request["name"]), service.home
    if home.ledger.device(name) is None:
        raise HubError(f"expected an enrolled device, found {name}; see `edgequilt hub status`")
    for desk in service.desks.values():
        busy = [r.number for r in desk.conductor.open.values() if any(s.device == name for s in (*r.seats, *r.judges))]
        if busy:
            raise HubError(
                f"expected no open round with {name}, found round {busy[0]}; wait for it, or stop it with "
                f"`edgequilt hub round stop {busy[0]}`"
            )
    again = {model: heads_without(home, desk.model, name) for model, desk in service.desks.items()}
    own = {row["digest"] for row in home.ledger.all_updates() if row["device"] == name}
    with home.ledger.transaction() as tx:
        for model, found in again.items():
            for without in found:
                _replace(service, service.desks[model], tx, without, name)
        forget_device(tx, name)
        text = f"what {name} sent and said was forgotten"
        put_row(tx, t.events, {"at_s": service.clock(), "round": None, "device": None, "text": text})
    kept = of_versions(home) | {row["digest"] for row in home.ledger.all_updates()}
    bytes_ = sum(home.blobs.delete(digest) for digest in sorted(own - kept))
    for model, found in again.items():
        if any(w.made is not None for w in found):
            service.desks[model].conductor.announce_tip()
            service.desks[model].conductor.announce_release()
    return {"device": name, "updates": len(own), "bytes": bytes_, "models": _said(service, again, name)}


def _replace(service: Service, desk: Desk, tx: Any, without: Without, name: str) -> None:
    """Keep a version that is as if the board had not been in its head, in place of the one that was in use."""
    if without.made is None:
        return
    ledger, model, now_s = service.home.ledger, desk.model.id, service.clock()
    release, tip = ledger.release(model), ledger.tip(model)
    put_version(tx, without.made, without.made.version.round, now_s)
    if tip == without.of:
        put_tip(tx, model, without.made.digest)
    if release is not None and release["digest"] == without.of:
        put_release(tx, without.made.digest, f"without {name}", now_s)


def _said(service: Service, again: dict[str, list[Without]], name: str) -> Row:
    """What became of each model, and what stays."""
    found: Row = {}
    for model, made in again.items():
        trained = trained_in(service.home, model, name)
        release = service.home.ledger.release(model)
        found[model] = {
            "heads": [w.made.version.version for w in made if w.made is not None],
            "not_made": sorted({w.why for w in made if w.made is None}),
            "trained_in": trained,
            "released": None if release is None else release["version"],
        }
    return found


TABLE: dict[str, Callable[[Service, Row], Row]] = {"collect": _collect, "forget": _forget}
