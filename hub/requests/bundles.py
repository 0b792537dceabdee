"""Requests about bundles: which there are, and which device gets which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from hub.bundles import assigning
from hub.bundles.counter import show
from hub.serving.service import Service
from hub.store.ledger import Row
from wire.manifest import parse_manifest


def _list(service: Service, request: Row) -> Row:
    rows = []
    for row in service.home.ledger.bundles():
        manifest = parse_manifest(row["manifest"], "a bundle in the ledger")
        kept = all(service.home.bundles.path(file.sha256).is_file() for file in manifest.files)
        of = {name: row[name] for name in ("sha256", "model", "device", "rank", "mode", "folder", "added_at_s")}
        rows.append({**of, "bytes": sum(file.bytes for file in manifest.files), "kept": kept})
    return {"bundles": rows}


def _assign(service: Service, request: Row) -> Row:
    bundle = assigning.named(service.home, str(request["bundle"]))
    devices = assigning.chosen(service.home, list(request.get("devices") or ()), str(request.get("group") or ""))
    assigning.assign(service.home, devices, bundle["sha256"], assigning.BY_HAND, service.clock())
    service.bundles.tell(devices)
    return {"bundle": bundle["sha256"], "devices": devices}


def _show(service: Service, request: Row) -> Row:
    return {"devices": show(service.bundles), "fetches": [asdict(fetch) for fetch in list(service.bundles.fetches)]}


TABLE: dict[str, Callable[[Service, Row], Row]] = {
    "bundle list": _list,
    "bundle assign": _assign,
    "bundle show": _show,
}
