"""What the hub tells people of rounds: plain values for `--json`, and the same as text."""

from __future__ import annotations

from typing import Any

from console.errors import HubError, join
from console.table import percent, table
from hub.making import recipe, versions
from hub.masking.stages import waits_for
from hub.rounds.names import job_id
from hub.rounds.refusal import missed
from hub.rounds.state import Round, Seat
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.record import plain
from wire.scores import Score, perplexity, read_scores

TAIL_LIMIT = 0.05  # of a slot's norm; where more was cut off, people are told
UPDATES_SAID = 20
LISTED = ("lap", "device", "kind", "job", "staleness", "samples", "digest")  # of an update


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
        "sentence": state.sentence or waits_for(state),
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
    counted = [u for u in home.ledger.updates(number) if u["kind"] in (state.update_kind, "tail")]
    rows = {r["device"]: r for r in counted if r["lap"] == state.latest and r["kind"] != "tail"}
    return {
        **round_line(state),
        "settings": state.settings,
        "recipe": plain(state.recipe),
        "privacy": None if state.private is None else plain(state.private),
        "secure": None if state.secure is None else plain(state.secure),
        "versions": [named(home.ledger.version(v)) for v in state.versions],
        "quorum": state.quorum,
        "goal": state.goal or len(state.seats),
        "staleness": state.staleness if state.mode == "buffered" else None,
        "selection": plain(state.selection),
        "then": state.then,
        "follows": state.follows or None,
        "bytes": sum(row["bytes"] for row in counted),
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
        **_compared(home, state),
        "standard_error": state.accuracy_error,
        "against": named(home.ledger.version(state.against)),
        "judges": {s.device: s.state for s in state.judges},
    }


def _compared(home: Home, state: Round) -> Row:
    """What the gate compared: macro accuracies, or of a decoder losses of a token."""
    found, none = (state.candidate_accuracy, state.parent_accuracy), (None, None)
    accuracies, losses = (found, none) if _labels(home, state) else (none, found)
    names = ("candidate", "parent")
    return {
        **{f"{name}_macro_accuracy": value for name, value in zip(names, accuracies, strict=True)},
        **{f"{name}_loss": value for name, value in zip(names, losses, strict=True)},
    }


def _labels(home: Home, state: Round) -> tuple[str, ...]:
    return versions.read_made(home.ledger.versions(state.model)[0]).version.labels


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
    if seat.front:
        found |= {"tail": seat.tail, "halves": list(seat.halves), "moved": len(seat.tried)}
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
        for score in read_scores(data, len(_labels(home, state)), f"the scores of {row['device']}"):
            found.setdefault(row["device"], []).append(_score(home, score))
    return found


def _score(home: Home, score: Score) -> Row:
    row, tokens = home.ledger.version(score.version), score.tokens
    return {
        "version": None if row is None else row["number"],
        "digest": score.version,
        "rank": score.rank,
        "count": list(score.count),
        "correct": list(score.correct),
        "rows": sum(score.count) if tokens is None else tokens.rows,
        "accuracy": score.accuracy,
        "macro_accuracy": score.macro_accuracy if tokens is None else None,
        "tokens": None if tokens is None else tokens.tokens,
        "loss": None if tokens is None else tokens.mean,
    }


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
            or_dash(s.get("samples")),
            or_dash(s.get("bytes")),
            or_dash(s.get("staleness")),
            s["reason"] or (f"tail: {s['tail']}" if s.get("tail") else "-"),
        ]
        for name, s in found["per_device"].items()
    ]
    lines.append(table(["device", "state", "samples", "bytes", "missed", "why"], rows))
    lines += [f"{found['bytes']:,} bytes of updates in all"] if found["bytes"] else []
    if found["laps"] != 1:
        said = [[u["lap"] + 1, u["device"], u["samples"], u["staleness"]] for u in found["updates"][-UPDATES_SAID:]]
        lines += ["", table(["version", "device", "samples", "missed"], said)]
    if found["version"] is not None:
        by = f" by {recipe.text(found['recipe'])}" if found["kind"] == "train" else ""
        lines.append(f"\nmade version {found['version']['version']} ({found['version']['digest'][:12]}){by}")
    if found["tails"] and found["tails"]["slots"]:
        lines += cut_off(found["tails"])
    scores = [(name, score) for name, some in found["scores"].items() for score in some]
    lines += ["", _scores_text(scores)] if scores else []
    return "\n".join(lines)


def _scores_text(found: list[tuple[str, Row]]) -> str:
    """How good versions are at devices: at labels, or at going on with texts."""
    begun = [[name, s["version"], s["rank"], s["rows"]] for name, s in found]
    names, scores = ["device", "version", "rank", "rows"], [s for _, s in found]
    if any(s["loss"] is not None for s in scores):
        losses = [[f"{s['loss']:.4f}", f"{perplexity(s['loss']):.4g}"] for s in scores]
        more = [[s["tokens"], percent(s["accuracy"]), *loss] for s, loss in zip(scores, losses, strict=True)]
        names += ["tokens", "right", "loss of a token", "perplexity"]
    else:
        more = [[percent(s["accuracy"]), percent(s["macro_accuracy"])] for s in scores]
        names += ["accuracy", "macro accuracy"]
    return table(names, [[*one, *rest] for one, rest in zip(begun, more, strict=True)])


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


def privacy_text(found: Row | None) -> list[str]:
    """Lines about what was spent; none where nothing is private."""
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


def version_named(found: Row | None) -> str:
    """A version in a sentence."""
    return "none" if found is None else f"version {found['version']}"


def or_dash(value: Any) -> Any:
    """What is not there is a dash."""
    return "-" if value is None else value
