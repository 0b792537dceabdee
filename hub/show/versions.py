"""What the hub tells people of versions and deployments: plain values for `--json`, and the same as text."""

from __future__ import annotations

import time
from typing import Any

from console.errors import HubError
from console.table import percent, table
from hub.deployments.deployment import Deployment
from hub.deployments.rollout import read_deployment
from hub.making import versions
from hub.show import rounds as show_rounds
from hub.store.ledger import Row
from hub.store.registry import Home


def version_lines(home: Home, model: str) -> list[Row]:
    """All versions of a model, a line each."""
    release, tip = home.ledger.release(model), home.ledger.tip(model)
    in_use = release["digest"] if release else ""
    return [
        {**_line(home, row), "tip": row["digest"] == tip, "in_use": row["digest"] == in_use}
        for row in home.ledger.versions(model)
    ]


def version_view(home: Home, digest: str) -> Row:
    """Everything about a version."""
    row = home.ledger.version(digest)
    if row is None:
        raise HubError(f"expected version {digest[:12]} in the ledger, found none")
    version, made_by = versions.read_made(row).version, home.ledger.round(row["round"]) if row["round"] else None
    return {
        **_line(home, row),
        "model": row["model"],
        "rank": version.rank,
        "blobs": sorted(versions.blob_names(version)),
        "participants": row["participants"],
        "notes": (row["metrics"] or {}).get("notes", []),
        "tails": show_rounds.tails(row["cut"]),
        "gate": None if made_by is None else show_rounds.gate_of(home, made_by),
        "releases": [
            {"sequence": r["sequence"], "group": r["group"], "why": r["why"], "at_s": r["at_s"]}
            for r in home.ledger.releases(row["model"])
            if r["digest"] == digest
        ],
        "deployments": [line for line in deployment_lines(home, row["model"]) if line["version"] == row["number"]],
        "served_by": [r["name"] for r in home.ledger.devices() if _serves(r, row)],
    }


def in_use_before(home: Home, model: str) -> str | None:
    """The version that was in use before the present one: what a rollback took back does not come again."""
    history = list[str]()
    for row in home.ledger.releases(model):
        if row["group"]:
            continue
        if row["digest"] in history:
            del history[history.index(row["digest"]) + 1 :]
        else:
            history.append(row["digest"])
    return history[-2] if len(history) > 1 else None


def deployment_lines(home: Home, model: str) -> list[Row]:
    """All deployments of a model, a line each."""
    return [_deployment(home, read_deployment(row), row) for row in home.ledger.deployments(model)]


def deployment_view(home: Home, number: int) -> Row:
    """Everything about a deployment.

    Raises:
        HubError: there is none of that number.
    """
    row = home.ledger.deployment(number)
    if row is None:
        raise HubError(f"expected a deployment, found none of number {number}; see `edgequilt hub deployment list`")
    state = read_deployment(row)
    return {
        **_deployment(home, state, row),
        "boards": {board: "serving" if board in state.serving else "waiting" for board in state.boards},
        "promote": state.promote,
        "sequence": state.sequence,
        "deadline_at_s": state.deadline_at_s,
        "scores": show_rounds.round_view(home, state.round)["scores"] if state.round else {},
    }


def _line(home: Home, row: Row) -> Row:
    known = [home.ledger.version(digest) for digest in row["parents"]]
    return {
        "version": row["number"],
        "digest": row["digest"],
        "parents": [parent["number"] for parent in known if parent is not None],
        "round": row["round"] or None,
        "has_head": bool(versions.read_made(row).version.head),
        "devices": len(row["participants"]),
        "created_at_s": row["created_at_s"],
    }


def _deployment(home: Home, state: Deployment, row: Row) -> Row:
    against = home.ledger.version(state.against)
    return {
        "deployment": state.number,
        "version": row["version"],
        "against": against["number"] if against else None,
        "group": state.group,
        "state": state.phase,
        "open": state.is_open,
        "serving": len(state.serving),
        "devices": len(state.boards),
        "round": state.round or None,
        "sentence": state.sentence,
    }


def _serves(device: Row, version: Row) -> bool:
    if device["model"] != version["model"]:
        return False
    hello = device["hello"] or {}
    told = hello.get("serves")
    return bool(told == version["digest"] if told else hello.get("released") == version["number"])


def versions_text(found: list[Row]) -> str:
    """A line per version."""
    rows = [
        [
            v["version"],
            _names(v["parents"]),
            v["round"] or "-",
            v["devices"] or "-",
            "yes" if v["has_head"] else "no",
            " ".join(word for word, holds in (("in use", v["in_use"]), ("tip", v["tip"])) if holds) or "-",
            v["digest"][:12],
        ]
        for v in found
    ]
    return table(["version", "parents", "round", "devices", "head", "is", "digest"], rows)


def version_text(found: Row) -> str:
    """A version for people."""
    lines = [
        f"version {found['version']} of {found['model']} ({found['digest']})",
        f"parents {_names(found['parents'])}, round {found['round'] or '-'}, rank {found['rank']}",
        f"made {_when(found['created_at_s'])}",
    ]
    lines += found["notes"]
    if found["tails"]["slots"]:
        lines.append(f"truncation cut off at most {percent(found['tails']['largest_share'])} of a slot's norm")
    if found["gate"] is not None:
        gate = found["gate"]
        said = _compared(gate)
        lines.append(f"gate: {said}, {'released' if gate['released'] else 'not released'}")
    if found["participants"]:
        lines += ["", table(["device", "samples", "share"], [_participant(p) for p in found["participants"]])]
    if found["releases"]:
        rows = [[r["sequence"], r["group"] or "all", _when(r["at_s"]), r["why"]] for r in found["releases"]]
        lines += ["", table(["sequence", "released to", "when", "why"], rows)]
    lines += ["", deployments_text(found["deployments"])] if found["deployments"] else []
    lines += ["", f"served by {', '.join(found['served_by']) or 'nobody'}"]
    return "\n".join(lines)


def _compared(gate: Row) -> str:
    if gate["candidate_loss"] is not None:
        return f"loss of a token {gate['candidate_loss']:.4f} after {gate['parent_loss']:.4f}"
    return f"{percent(gate['candidate_macro_accuracy'])} after {percent(gate['parent_macro_accuracy'])}"


def _participant(found: Row) -> list[Any]:
    """Who took part; with how many samples, where that is known and was not forgotten."""
    return [found["device"], "-" if found["samples"] is None else found["samples"], percent(found.get("share"))]


def deployments_text(found: list[Row]) -> str:
    """A line per deployment."""
    rows = [
        [
            x["deployment"],
            x["version"],
            x["against"],
            x["group"],
            x["state"],
            f"{x['serving']}/{x['devices']}",
            x["sentence"] or "-",
        ]
        for x in found
    ]
    return table(["deployment", "version", "against", "group", "state", "serving", "what"], rows)


def deployment_text(found: Row) -> str:
    """A deployment for people."""
    what = f"version {found['version']} against {found['against']} on {found['group']}"
    lines = [
        f"deployment {found['deployment']}: {what}: {found['state']}",
        found["sentence"] or "(no result yet)",
        "",
        table(["device", "state"], [[name, state] for name, state in found["boards"].items()]),
    ]
    if found["state"] == "waiting":
        lines.append("\n`edgequilt hub promote` releases it to all, `edgequilt hub rollback` takes it back")
    return "\n".join(lines)


def _names(numbers: list[Any]) -> str:
    return ", ".join(map(str, numbers)) or "-"


def _when(at_s: float | None) -> str:
    return "-" if at_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
