"""What a round knows of its devices: what their bundles hold, and who has the tails of those that need one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hub.making.model import Model, read_model
from hub.rounds.jobs import Reached
from hub.rounds.state import Round, Seat
from hub.store.ledger import Row
from hub.store.registry import Home

FRONT, TAIL = "front", "tail"  # of `Hello.jobs`
NO_TAIL = "no device that has tails is online; start an agent of profile server with the whole model's bundle"

STRANGE = "this hub does not know the front that it runs; take its bundle in with `edgequilt hub add`"


def seats_for(home: Home, model: Model, devices: Iterable[str], load: Mapping[str, int]) -> tuple[Seat, ...]:
    """A seat for each device, with a tail for those that need one, the least loaded one for each in turn.

    Args:
        home: the hub's folder, opened.
        model: the whole of it.
        devices: their names.
        load: how many boards each tail has that can take some (`tails_of`).

    Returns:
        Seats in the order of `devices`; a front without a tail has failed, with the reason.
    """
    rows, left, seats = {row["name"]: row for row in home.ledger.devices()}, dict(load), list[Seat]()
    for name in devices:
        hello = (rows[name]["hello"] if name in rows else None) or {}
        front = FRONT in hello.get("jobs", ())
        seat = Seat(name, bundle=_part(home, model, hello, front), front=front)
        if front and not seat.bundle:
            seat = replace(seat, state="failed", reason=STRANGE)
        elif front:
            tail = min(left, key=lambda one: (left[one], one), default="")
            seat = replace(seat, tail=tail) if tail else replace(seat, state="failed", reason=NO_TAIL)
            left |= {tail: left[tail] + 1} if tail else {}
        seats.append(seat)
    return tuple(seats)


def tails_of(home: Home, model: str, rounds: Iterable[Round], without: str = "") -> dict[str, int]:
    """The tails that can take boards of a model, and how many of open rounds each has."""
    found = {
        row["name"]: 0
        for row in home.ledger.devices()
        if row["model"] in ("", model)
        and row["online"]
        and not row["revoked"]
        and not row["quarantine"]
        and row["name"] != without
        and TAIL in (row["hello"] or {}).get("jobs", ())
    }
    for seat in (seat for state in rounds for seat in state.seats if state.phase == "collecting"):
        if seat.state == "waiting" and seat.tail in found:
            found[seat.tail] += 1
    return found


def reached(home: Home, name: str) -> Reached:
    """How a device is known and found by others."""
    row: Row = home.ledger.device(name) or {"key": "", "hello": None}
    return Reached(row["key"], str((row["hello"] or {}).get("address") or ""))


def held_by(home: Home, model: Model, state: Round, device: str, kind: str) -> frozenset[str] | None:
    """The slots that an update of a round holds, those of a tail's half under its board's name; None: all."""
    seat = next((s for s in state.seats if s.device == device), None)
    row = home.ledger.bundle(seat.bundle) if seat is not None and seat.bundle else None
    if row is None:
        return None
    held = frozenset(slot.name for slot in read_model(bytes(row["manifest"])).slots)
    return frozenset(slot.name for slot in model.slots) - held if kind == "tail" else held


def _part(home: Home, model: Model, hello: Mapping[str, object], front: bool) -> str:
    """The digest of a device's bundle, if it is a front, or holds a part of the model's slots."""
    row = home.ledger.bundle(str(hello.get("bundle") or ""))
    if row is None or row["model"] != model.id:
        return ""
    held = read_model(bytes(row["manifest"])).slots
    return str(row["sha256"]) if front or len(held) < len(model.slots) else ""
