"""What a round knows of its devices: what their bundles hold, and who has the tails of those that need one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hub.making.model import Model, model_of, read_model
from hub.making.pace import pace_of
from hub.rounds.jobs import Reached
from hub.rounds.state import Round, Seat
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.manifest import parse_manifest

FRONT, TAIL = "front", "tail"  # of `Hello.jobs`
NO_TAIL = "no device that has tails is online; start an agent of profile server with the whole model's bundle"
OTHER_EXPORT = "the tails that are online are of another export than its front; give both bundles of one export"
STRANGE = "this hub does not know the front that it runs; take its bundle in with `edgequilt hub add`"


@dataclass(frozen=True)
class Tail:
    """A device that can take boards: how many jobs of open rounds it has, and which export's fronts it goes on from."""

    boards: int = 0
    split: str = ""


def seats_for(home: Home, model: Model, devices: Iterable[str], tails: Mapping[str, Tail]) -> tuple[Seat, ...]:
    """A seat for each device, with a tail for those that need one, the least loaded one for each in turn.

    Args:
        home: the hub's folder, opened.
        model: the whole of it.
        devices: their names.
        tails: those that can take some (`tails_of`).

    Returns:
        Seats in the order of `devices`; a front without a tail has failed, with the reason.
    """
    rows, names, seats = {row["name"]: row for row in home.ledger.devices()}, list(devices), list[Seat]()
    left = {one: replace(tail, boards=tail.boards + (one in names)) for one, tail in tails.items()}  # it computes, too
    for name in names:
        hello = (rows[name]["hello"] if name in rows else None) or {}
        front = FRONT in hello.get("jobs", ())
        seat = Seat(name, bundle=_part(home, model, hello, front), front=front)
        if front and not seat.bundle:
            seat = replace(seat, state="failed", reason=STRANGE)
        elif front:
            seat = replace(seat, step_s=_step_s(home, seat.bundle))
            split = split_of(home, seat.bundle)
            fitting = {one: tail.boards for one, tail in left.items() if tail.split == split}
            best = min(fitting, key=lambda one: (fitting[one], one), default="")
            reason = NO_TAIL if not left else OTHER_EXPORT
            seat = replace(seat, tail=best) if best else replace(seat, state="failed", reason=reason)
            left |= {best: replace(left[best], boards=fitting[best] + 1)} if best else {}
        seats.append(seat)
    return tuple(seats)


def tails_of(home: Home, model: str, rounds: Iterable[Round]) -> dict[str, Tail]:
    """The devices that can take boards of a model, by name; their own jobs count as well as those of boards."""
    able = [
        row
        for row in home.ledger.devices()
        if row["model"] in ("", model)
        and row["online"]
        and not row["revoked"]
        and not row["quarantine"]
        and TAIL in (row["hello"] or {}).get("jobs", ())
    ]
    seats = (seat for state in rounds if state.phase == "collecting" for seat in state.seats)
    waiting = [name for seat in seats if seat.state == "waiting" for name in (seat.device, seat.tail)]
    return {
        row["name"]: Tail(waiting.count(row["name"]), split_of(home, str(row["hello"].get("bundle") or "")))
        for row in able
    }


def others_for(home: Home, model: str, rounds: Iterable[Round], tail: str, *, itself: bool) -> dict[str, int]:
    """The tails that can take the boards of one, and how many jobs each has; `itself`: that one may be tried again."""
    found = tails_of(home, model, rounds)
    known = home.ledger.device(tail)
    split = split_of(home, str(((known or {}).get("hello") or {}).get("bundle") or ""))
    return {name: one.boards for name, one in found.items() if one.split == split and (itself or name != tail)}


def split_of(home: Home, bundle: str) -> str:
    """Which export's halves a bundle belongs to; empty where it is none of any, or this hub does not know it."""
    row = home.ledger.bundle(bundle)
    return "" if row is None else read_model(bytes(row["manifest"])).split


def has_judges(home: Home, seats: Iterable[Seat]) -> bool:
    """Whether what these devices make can be judged: fronts evaluate nothing, and what nobody judges goes nowhere."""
    some = tuple(seats)
    jobs = {row["name"]: (row["hello"] or {}).get("jobs", ()) for row in home.ledger.devices()}
    return not any(s.front for s in some) or any("evaluate" in jobs.get(s.device, ()) for s in some)


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
    held, trained = _slots(row)
    return frozenset(slot.name for slot in model.slots) - held if kind == "tail" else trained


def _slots(row: Row) -> tuple[frozenset[str], frozenset[str]]:
    """The slots that a bundle holds, and those of them that its board trains."""
    manifest = parse_manifest(bytes(row["manifest"]), "a bundle in the ledger")
    held = frozenset(slot.name for slot in model_of(manifest).slots)
    return held, held & manifest.plan.ranks.keys() if manifest.plan.ranks else held


def _step_s(home: Home, bundle: str) -> float:
    """What the plan of a front has for a step; 0 where nobody planned."""
    planned = pace_of(home, bundle)
    return 0.0 if planned is None else planned.step_s


def _part(home: Home, model: Model, hello: Mapping[str, object], front: bool) -> str:
    """The digest of a device's bundle, if it is a front, or trains a part of the model's slots."""
    row = home.ledger.bundle(str(hello.get("bundle") or ""))
    if row is None or row["model"] != model.id:
        return ""
    _, trained = _slots(row)
    return str(row["sha256"]) if front or len(trained) < len(model.slots) else ""
