"""What the hub tells people: plain values for `--json`, and the same as text."""

from __future__ import annotations

from typing import Any

from console.errors import HubError, join
from console.table import mib, percent, table
from hub.making import recipe, versions
from hub.privacy.promise import summary
from hub.rounds.refusal import job_id, missed
from hub.rounds.state import UPDATE_OF, Round, Seat
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.record import plain
from wire.scores import Score, read_scores

TAIL_LIMIT = 0.05  # of a slot's norm; where more was cut off, people are told
UPDATES_SAID = 20
LISTED = ("lap", "device", "job", "staleness", "samples", "digest")  # of an update


def status(home: Home, broker: str, lacks: list[str], now_s: float) -> Row:
    """The whole hub at a glance."""
    ledger = home.ledger
    of_bundles = ("sha256", "model", "device", "rank", "mode", "folder")
    models = [model(home, row["model"]) for row in ledger.models()]
    one = models[0] if len(models) == 1 else {"model": "", "tip": None, "released": None, "trial": None}
    return {
        "fleet": home.config.fleet,
        **one,
        "models": models,
        "broker": broker,
        "broker_lacks": lacks,
        "bundles": [{k: b[k] for k in of_bundles} for b in ledger.bundles()],
        "devices": [device(row, now_s) for row in ledger.devices()],
        "rounds_open": [round_line(r) for r in ledger.open_rounds()],
        "privacy": summary(home),
        "receipts": [{k: r[k] for k in ("device", "job", "status", "reason")} for r in ledger.receipts(10)],
        "events": [e["text"] for e in ledger.events(10)],
    }


def model(home: Home, name: str) -> Row:
    """A model: the version that work goes on from, and the one to serve."""
    release = home.ledger.release(name)
    return {
        "model": name,
        "tip": named(home.ledger.version(home.ledger.tip(name))),
        "released": None if release is None else {"version": release["version"], "digest": release["digest"]},
        "trial": _trial(home, name),
    }


def _trial(home: Home, name: str) -> Row | None:
    """The deployment of a model that is open, briefly."""
    row = next((row for row in home.ledger.deployments(name) if row["closed_at_s"] is None), None)
    if row is None:
        return None
    return {"deployment": row["id"], **{key: row[key] for key in ("version", "group", "state")}}


def device(row: Row, now_s: float) -> Row:
    """One device."""
    hello = row["hello"] or {}
    seen = row["seen_at_s"]
    return {
        "device": row["name"],
        "model": row["model"],
        "online": bool(row["online"]),
        "profile": hello.get("profile", ""),
        "rank": hello.get("rank"),
        "released": hello.get("released", -1),
        "samples": hello.get("samples"),
        "jobs": hello.get("jobs", []),
        "bundle": hello.get("bundle", ""),
        "agent": hello.get("agent", ""),
        "runtime": hello.get("runtime", ""),
        "memory_available_bytes": hello.get("memory_available_bytes"),
        "power": hello.get("power", ""),
        "battery_percent": hello.get("battery_percent"),
        "network": hello.get("network", ""),
        "groups": row["groups"],
        "tags": row["tags"],
        "seen_s_ago": None if seen is None else round(max(0.0, now_s - seen), 1),
    }


def round_line(state: Round) -> Row:
    """A round in a list."""
    answered = sum(s.state == "arrived" for s in state.seats)
    return {
        "round": state.number,
        "model": state.model,
        "kind": state.kind,
        "state": state.phase,
        "open": state.is_open,
        "answered": answered,
        "devices": len(state.seats),
        "mode": state.mode,
        "lap": state.lap,
        "laps": state.laps,
        "released": state.released,
        "sentence": state.sentence,
    }


def round_view(home: Home, number: int) -> Row:
    """Everything about a round.

    Raises:
        HubError: there is none of that number.
    """
    state = home.ledger.round(number)
    if state is None:
        raise HubError(
            f"expected a round of 1 to {home.ledger.last_round()}, found {number}; see `edgequilt hub round list`"
        )
    made = home.ledger.version(state.version) if state.version else None
    counted = home.ledger.updates(number, UPDATE_OF[state.kind])
    rows = {r["device"]: r for r in counted if r["lap"] == state.latest}
    return {
        **round_line(state),
        "settings": state.settings,
        "recipe": plain(state.recipe),
        "privacy": None if state.private is None else plain(state.private),
        "versions": [named(home.ledger.version(v)) for v in state.versions],
        "quorum": state.quorum,
        "goal": state.goal or len(state.seats),
        "staleness": state.staleness if state.mode == "buffered" else None,
        "selection": plain(state.selection),
        "then": state.then,
        "follows": state.follows or None,
        "per_device": {s.device: _seat(state, s, rows) for s in state.seats},
        "updates": [{k: u[k] for k in LISTED} for u in counted],
        "version": named(made),
        "tails": None if made is None else tails(made["cut"]),
        "gate": gate_of(home, state),
        "scores": _scores(home, state),
    }


def gate_of(home: Home, state: Round) -> Row | None:
    """What the gate of a round found; None if there was none."""
    if not state.against or not state.candidate:
        return None
    return {
        "decided": state.phase == "complete",
        "released": state.released,
        "candidate_macro_accuracy": state.candidate_accuracy,
        "parent_macro_accuracy": state.parent_accuracy,
        "standard_error": state.accuracy_error,
        "against": named(home.ledger.version(state.against)),
        "judges": {s.device: s.state for s in state.judges},
    }


def named(row: Row | None) -> Row | None:
    """A version, briefly."""
    if row is None:
        return None
    head = versions.read_made(row).version.head
    return {"version": row["number"], "digest": row["digest"], "has_head": bool(head)}


def _seat(state: Round, seat: Seat, rows: dict[str, Row]) -> Row:
    found: Row = {"state": seat.state, "reason": seat.reason}
    if state.laps != 1:
        found.update(job=job_id(state.number, state.kind, seat.device, seat.turn), staleness=missed(state, seat.device))
    row = rows.get(seat.device)
    if row is not None:
        found.update({k: row[k] for k in ("bytes", "samples", "metrics")}, update=row["digest"])
    return found


def tails(cut: dict[str, list[float]]) -> Row:
    """What truncation cut off, by slot: Frobenius norms."""
    slots = {slot: tail for slot, (tail, _) in cut.items()}
    shares = [tail / norm for tail, norm in cut.values() if norm > 0]
    return {
        "slots": slots,
        "max": max(slots.values(), default=0.0),
        "sum": float(sum(slots.values())),
        "largest_share": max(shares, default=0.0),
        "above_limit": sorted(slot for slot, (tail, norm) in cut.items() if tail > TAIL_LIMIT * norm),
    }


def _scores(home: Home, state: Round) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in home.ledger.updates(state.number, "scores"):
        data = home.blobs.get(row["digest"])
        classes = len(versions.read_made(home.ledger.versions(state.model)[0]).version.labels)
        for score in read_scores(data, classes, f"the scores of {row['device']}"):
            found.setdefault(row["device"], []).append(_score(home, score))
    return found


def _score(home: Home, score: Score) -> Row:
    row = home.ledger.version(score.version)
    return {
        "version": None if row is None else row["number"],
        "digest": score.version,
        "rank": score.rank,
        "count": list(score.count),
        "correct": list(score.correct),
        "rows": sum(score.count),
        "accuracy": score.accuracy,
        "macro_accuracy": score.macro_accuracy,
    }


def status_text(found: Row) -> str:
    """A page for people."""
    lines = [
        f"fleet {found['fleet']}, broker {found['broker']}"
        + (f" (lacks {' and '.join(found['broker_lacks'])})" if found["broker_lacks"] else ""),
        *map(_model, found["models"]),
        *([] if found["models"] else ["no model: add a bundle"]),
        *_privacy(found.get("privacy")),
        "",
        table(
            ["device", "online", "profile", "rank", "released", "samples", "memory"],
            [
                [
                    d["device"],
                    "yes" if d["online"] else "no",
                    d["profile"] or "-",
                    _or_dash(d["rank"]),
                    _or_dash(d["released"]) if d["released"] >= 0 else "-",
                    _or_dash(d["samples"]),
                    mib(d["memory_available_bytes"]),
                ]
                for d in found["devices"]
            ],
        ),
    ]
    if found.get("messages_ignored"):
        lines += ["", f"{found['messages_ignored']} messages ignored; the last:", *found["ignored_because"][-3:]]
    if found["rounds_open"]:
        lines += ["", rounds_text(found["rounds_open"])]
    return "\n".join(lines)


def _model(found: Row) -> str:
    trial = found["trial"]
    tried = f", on trial version {trial['version']} on {trial['group']} ({trial['state']})" if trial else ""
    return f"model {found['model']}: tip {_version(found['tip'])}, released {_version(found['released'])}{tried}"


def rounds_text(found: list[Row]) -> str:
    """A line per round."""
    rows = [
        [
            r["round"],
            r["kind"],
            r["mode"],
            r["state"],
            _laps(r),
            f"{r['answered']}/{r['devices']}",
            r["sentence"] or "-",
        ]
        for r in found
    ]
    return table(["round", "kind", "mode", "state", "versions", "answered", "what"], rows)


def round_text(found: Row) -> str:
    """A round for people."""
    lines = [f"round {found['round']} ({found['kind']}): {found['state']}", found["sentence"] or "(no result yet)", ""]
    rows = [
        [
            name,
            s["state"],
            _or_dash(s.get("samples")),
            _or_dash(s.get("bytes")),
            _or_dash(s.get("staleness")),
            s["reason"] or "-",
        ]
        for name, s in found["per_device"].items()
    ]
    lines.append(table(["device", "state", "samples", "bytes", "missed", "why"], rows))
    if found["laps"] != 1:
        said = [[u["lap"] + 1, u["device"], u["samples"], u["staleness"]] for u in found["updates"][-UPDATES_SAID:]]
        lines += ["", table(["version", "device", "samples", "missed"], said)]
    if found["version"] is not None:
        by = f" by {recipe.text(found['recipe'])}" if found["kind"] == "train" else ""
        lines.append(f"\nmade version {found['version']['version']} ({found['version']['digest'][:12]}){by}")
    if found["tails"] and found["tails"]["slots"]:
        lines += cut_off(found["tails"])
    scores = [
        [name, s["version"], s["rank"], s["rows"], percent(s["accuracy"]), percent(s["macro_accuracy"])]
        for name, found_scores in found["scores"].items()
        for s in found_scores
    ]
    if scores:
        lines += ["", table(["device", "version", "rank", "rows", "accuracy", "macro accuracy"], scores)]
    return "\n".join(lines)


def cut_off(told: Row) -> list[str]:
    """What did not fit the hub's rank, and whether it is much."""
    lines = [f"truncation cut off at most {percent(told['largest_share'])} of a slot's norm"]
    over = told["above_limit"]
    if over:
        some = join([*over[:3], *([f"{len(over) - 3} more"] if len(over) > 3 else [])])
        lines.append(
            f"warning: more than {percent(TAIL_LIMIT)} was cut off in {some}; lower the learning rate or the steps, or "
            "begin a hub with a larger [adapter] rank"
        )
    return lines


def _privacy(found: Row | None) -> list[str]:
    if found is None:
        return []
    budget = f" of {found['budget']:g}" if found["budget"] else ""
    lines = [f"spent: epsilon {found['epsilon']:.3g}{budget} (delta {found['delta']:g}) in {found['rounds']} rounds"]
    if found["rounds_without_noise"]:
        lines.append(f"{found['rounds_without_noise']} rounds made versions without noise: nothing is promised of them")
    return lines


def _laps(found: Row) -> str:
    """How many versions a round has made, of how many.

    >>> _laps({"lap": 3, "laps": 0}), _laps({"lap": 1, "laps": 5})
    ('3', '1/5')
    """
    return f"{found['lap']}" if not found["laps"] else f"{found['lap']}/{found['laps']}"


def _version(found: Row | None) -> str:
    return "none" if found is None else f"version {found['version']}"


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value
