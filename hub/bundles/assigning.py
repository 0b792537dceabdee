"""Which device gets which bundle: by hand, or, for a device that has none, by its kind of board."""

from __future__ import annotations

from collections.abc import Iterable

from console.errors import HubError
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import put_assignment

BY_HAND, BY_KIND = "by hand", "of its kind of board"


def assign(home: Home, devices: Iterable[str], bundle: str, why: str, now_s: float) -> None:
    """Give devices a bundle; a higher sequence each time, so that a device that gave up on it tries again."""
    with home.ledger.transaction() as tx:
        for name in devices:
            put_assignment(tx, name, bundle, why, now_s)


def assigned(home: Home, device: Row, has: str, now_s: float) -> Row | None:
    """The assignment of a device; made now if it has none, and no bundle either.

    Args:
        home: the hub's.
        device: its row, with the profile of its last hello.
        has: the digest of the bundle that it runs; empty: none.
        now_s: the time.
    """
    found = home.ledger.assignment(device["name"])
    if found is not None or has:
        return found
    profile = (device["hello"] or {}).get("profile") or ""
    for kind in filter(None, (device["name"], profile)):  # a bundle of its own before one of its kind
        made = [row for row in home.ledger.bundles() if row["device"] == kind]
        if made:
            newest = max(made, key=lambda row: (row["added_at_s"] or 0.0, row["sha256"]))
            assign(home, [device["name"]], newest["sha256"], BY_KIND, now_s)
            return home.ledger.assignment(device["name"])
    return None


def named(home: Home, text: str) -> Row:
    """The bundle that a digest, or its beginning, or a kind of board means.

    Raises:
        HubError: there is none, or several.
    """
    rows = home.ledger.bundles()
    found = [row for row in rows if row["sha256"].startswith(text)] if len(text) >= 4 else []
    found = found or [row for row in rows if row["device"] == text]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{row['sha256'][:12]} ({row['device']})" for row in rows) or "none"
    raise HubError(f"expected one bundle of this hub, found {len(found)} for {text}; name one by its digest: {known}")


def chosen(home: Home, names: list[str], group: str) -> list[str]:
    """The devices that are named, or those of a group.

    Raises:
        HubError: there are none, or some are not enrolled.
    """
    rows = {row["name"]: row for row in home.ledger.devices() if not row["revoked"]}
    found = [*names, *(name for name, row in rows.items() if group and group in (row["groups"] or ()))]
    unknown = [name for name in found if name not in rows]
    if unknown or not found:
        wrong = ", ".join(unknown) or f"none in group {group}"
        raise HubError(f"expected enrolled devices, found {wrong}; see `edgequilt hub status`")
    return list(dict.fromkeys(found))
