"""What the hub tells people of fixes: plain values for `--json`, and the same as text."""

from __future__ import annotations

import time
from typing import Any

from console.errors import EdgequiltError, HubError
from console.table import table
from hub.fixes import gate
from hub.fixes.asking import bars_of
from hub.fixes.making import KIND, found_in
from hub.making.versions import read_made
from hub.rounds.state import Round
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.record import plain


def fix_lines(home: Home, model: str) -> list[Row]:
    """All fixes of a model that were asked for, a line each."""
    return [_line(home, state) for state in home.ledger.rounds() if state.kind == KIND and state.model == model]


def fix_view(home: Home, number: int) -> Row:
    """Everything about a fix.

    Raises:
        HubError: there is none of that number.
    """
    state = home.ledger.round(number)
    if state is None or state.kind != KIND:
        raise HubError(f"expected a fix, found number {number}; see `edgequilt hub fix --list`")
    found: Row = {**_line(home, state), "paraphrases": len(state.settings["sha256"]) - 1}
    found |= {"ranks": state.settings["ranks"], "devices": len(state.seats), "report": None, "drawdown": None}
    found["answered"] = sum(seat.state == "arrived" for seat in state.seats)
    try:
        _, report = found_in(home, state)
    except EdgequiltError:
        return found
    decision = gate.decide(report, bars_of(state.settings))
    reported = {k: v for k, v in plain(report).items() if k != "schema"}
    return {**found, "report": reported, "drawdown": gate.drawdown(report), "gate": plain(decision)}


def _line(home: Home, state: Round) -> Row:
    made = home.ledger.version(state.version) if state.version else None
    edits = () if made is None else read_made(made).version.edits
    release = home.ledger.release(state.model)
    served = () if release is None else read_made(home.ledger.version(release["digest"]) or {}).version.edits
    in_use = any(edit.fix == state.number for edit in served)
    told = state.settings
    return {
        "fix": state.number,
        "model": state.model,
        "state": _state(state, in_use),
        "open": state.is_open,
        "expect": told["expect"],
        "input_sha256": told["sha256"][0],
        "by": told["by"],
        "dry_run": told["dry_run"],
        "bar": told["drawdown"],
        "opened_at_s": home.ledger.opened_at_s(state.number),
        "version": None if made is None else made["number"],
        "bytes": sum(edit.bytes for edit in edits if edit.fix == state.number) or None,
        "in_use": in_use,
        "sentence": state.sentence,
    }


def _state(state: Round, in_use: bool) -> str:
    if state.is_open:
        return "open"
    if state.phase == "failed":
        return "refused"
    if state.settings["dry_run"]:
        return "dry run"
    if in_use:
        return "in use"
    return "not in use" if state.released else "not released"


def fixes_text(found: list[Row]) -> str:
    """A line per fix."""
    rows = [
        [
            one["fix"],
            one["state"],
            one["expect"],
            one["input_sha256"][:12],
            one["version"] or "-",
            one["bytes"] or "-",
            _when(one["opened_at_s"]),
            one["by"] or "-",
        ]
        for one in found
    ]
    return table(["fix", "state", "expect", "input sha256", "version", "bytes", "when", "by"], rows)


def fix_text(found: Row) -> str:
    """A fix for people."""
    head = f"fix {found['fix']} of {found['model']}: {found['state']}"
    lines = [head, found["sentence"] or "(no result yet)"]
    if found.get("gate") and found["dry_run"]:
        lines[1] = found["gate"]["sentence"]
    if found["version"] is not None:
        lines.append(f"version {found['version']}; {found['bytes']:,} bytes for each board to fetch")
    if found["state"] == "not released":
        lines.append(f"`edgequilt hub deploy {found['version']} --group GROUP` puts it on trial")
    if found["state"] == "in use":
        lines.append(f"`edgequilt hub fix --undo {found['fix']}` takes it back")
    if found["report"]:
        rows = [_rank(found, one) for one in found["report"]["at"]]
        lines += ["", table(["rank", "before", "now right", "paraphrases", "lost", "gained"], rows)]
    return "\n".join(lines)


def _rank(found: Row, one: Row) -> list[Any]:
    report = found["report"]
    paraphrases = f"{one['paraphrases_right']}/{report['paraphrases']}" if report["paraphrases"] else "-"
    lost = f"{one['lost']}/{report['rows']}"
    return [one["rank"], one["before"], "yes" if one["right"] else "no", paraphrases, lost, one["gained"]]


def _when(at_s: float | None) -> str:
    return "-" if at_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
