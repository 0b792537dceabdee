"""What `hub watch` shows: the fleet and the running rounds as a page, or what changed since the last look as lines.

A look is `{"status": ..., "rounds": [...]}`: the answers of the requests `status` and, per open round, `show`.
"""

from __future__ import annotations

from typing import Any

from console.table import percent, shown, table
from hub.show.status import status_text

Row = dict[str, Any]
BAR_CELLS = 24
EVENTS_SHOWN = 5


def page(look: Row) -> str:
    """Everything at a glance."""
    status = {**look["status"], "rounds_open": []}  # rounds have their own part
    parts = [status_text(status)]
    parts += [_round(found) for found in look["rounds"]] or ["no round is open"]
    events = [shown(text) for text in status["events"][:EVENTS_SHOWN]]
    if events:
        parts.append("\n".join(["before:", *events]))
    return "\n\n".join(parts)


def news(before: Row | None, after: Row) -> list[str]:
    """What changed between two looks, a line each; of the first look, what is there."""
    if before is None:
        devices = after["status"]["devices"]
        online = sum(bool(d["online"]) for d in devices)
        lines = [f"fleet {after['status']['fleet']}: {online} of {len(devices)} devices online"]
        before = {"status": after["status"], "rounds": []}
    else:
        lines = _devices(before["status"]["devices"], after["status"]["devices"])
    known = {found["round"]: found for found in before["rounds"]}
    for found in after["rounds"]:
        lines += _seats(known.get(found["round"]), found)
    lines += [shown(text) for text in _newer(before["status"]["events"], after["status"]["events"])]
    return lines + _released(before["status"], after["status"])


def bar(part: float, whole: float) -> str:
    """A bar of text.

    >>> bar(1, 2)
    '############............'
    """
    done = 0 if whole <= 0 else round(BAR_CELLS * min(1.0, part / whole))
    return "#" * done + "." * (BAR_CELLS - done)


def _round(found: Row) -> str:
    head = f"round {found['round']} ({found['kind']}) {found['state']}: {found['answered']} of {found['devices']}"
    lines = [f"{head}  [{bar(found['answered'], found['devices'])}]"]
    rows = [[name, seat["state"], _metric(seat), shown(seat["reason"]) or "-"] for name, seat in _all_seats(found)]
    return "\n".join([*lines, table(["device", "job", "found", "why"], rows)])


def _all_seats(found: Row) -> list[tuple[str, Row]]:
    judges = (found.get("gate") or {}).get("judges", {})
    seats = list(found["per_device"].items())
    return seats + [(name, {"state": f"judge: {state}", "reason": ""}) for name, state in judges.items()]


def _metric(seat: Row) -> str:
    metrics = seat.get("metrics") or {}
    if isinstance(metrics.get("loss"), (int, float)):
        return f"loss {metrics['loss']:.3g}"
    accuracy = metrics.get("accuracy")
    return percent(accuracy) if isinstance(accuracy, (int, float)) else "-"


def _devices(before: list[Row], after: list[Row]) -> list[str]:
    was = {d["device"]: bool(d["online"]) for d in before}
    return [
        f"{d['device']} {'came online' if d['online'] else 'went offline'}"
        for d in after
        if was.get(d["device"], False) != bool(d["online"])
    ]


def _seats(before: Row | None, after: Row) -> list[str]:
    name = f"round {after['round']} ({after['kind']})"
    lines = [] if before is not None else [f"{name} is open for {after['devices']} devices"]
    if before is not None and before["state"] != after["state"]:
        lines.append(f"{name} is {after['state']}")
    was = {} if before is None else dict(_all_seats(before))
    for device, seat in _all_seats(after):
        if seat["state"] not in ("waiting", "judge: waiting") and was.get(device, {}).get("state") != seat["state"]:
            said = ", ".join(text for text in (_metric(seat), shown(seat["reason"])) if text not in ("", "-"))
            lines.append(f"{name}: {device} {seat['state']}{f' ({said})' if said else ''}")
    return lines


def _newer(before: list[str], after: list[str]) -> list[str]:
    """The events of `after` that came since `before`, oldest first; both begin with the newest."""
    for count in range(len(after) + 1):
        if after[count:] == before[: len(after) - count]:
            return after[:count][::-1]
    return after[::-1]


def _released(before: Row, after: Row) -> list[str]:
    old = {found["model"]: found["released"] for found in before["models"]}
    new = [found for found in after["models"] if found["released"] not in (None, old.get(found["model"]))]
    named = {found["model"]: f" of {found['model']}" if len(after["models"]) > 1 else "" for found in new}
    return [f"version {found['released']['version']}{named[found['model']]} is released" for found in new]
