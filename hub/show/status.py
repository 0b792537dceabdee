"""What the hub tells people of itself: plain values for `--json`, and the same as text."""

from __future__ import annotations

from console.duration import words
from console.table import mib, shown, table
from hub.identity import claims, rotation
from hub.privacy.promise import summary
from hub.show.rounds import named, or_dash, privacy_text, round_line, rounds_text, version_named
from hub.store.ledger import Row
from hub.store.registry import Home
from wire.record import plain

MOST_WARNINGS = 8  # of one board, on the page
HEALTH = ("temperature_c", "under_voltage", "throttled", "load", "disk_free_bytes", "uptime_s")


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
        "certificates_late": _late(home, now_s),
        "hub_key": plain(rotation.standing(home)),
        "tokens_open": [row["name"] for row in claims.outstanding(home, now_s) if row["state"] == "open"],
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
    seen, ends = row["seen_at_s"], row["expires_at_s"]
    return {
        "device": row["name"],
        "model": row["model"],
        "online": bool(row["online"]),
        "revoked": bool(row["revoked"]),
        "quarantine": row["quarantine"],
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
        "waits": hello.get("waits", ""),
        "network": hello.get("network", ""),
        **{name: hello.get(name) for name in HEALTH},
        "warnings": hello.get("warnings", []),
        "groups": row["groups"],
        "tags": row["tags"],
        "seen_s_ago": None if seen is None else round(max(0.0, now_s - seen), 1),
        "certificate_ends_in_s": None if ends is None else round(ends - now_s, 1),
    }


def _key(found: Row) -> list[str]:
    """That the hub has announced another key, while it has."""
    if not found["next"]:
        return []
    count = len(found["know"]) + len(found["wait"])
    return [f"key {found['next']} of the hub is announced: {len(found['know'])} of {count} boards know it"]


def status_text(found: Row) -> str:
    """A page for people."""
    lines = [
        f"fleet {found['fleet']}, broker {found['broker']}"
        + (f" (lacks {' and '.join(found['broker_lacks'])})" if found["broker_lacks"] else ""),
        *map(_model, found["models"]),
        *([] if found["models"] else ["no model: add a bundle"]),
        *_key(found["hub_key"]),
        *privacy_text(found.get("privacy")),
        "",
        table(
            ["device", "online", "profile", "rank", "released", "samples", "memory", "heat"],
            [
                [
                    d["device"],
                    "revoked" if d["revoked"] else "yes" if d["online"] else "no",
                    d["profile"] or "-",
                    or_dash(d["rank"]),
                    or_dash(d["released"]) if d["released"] >= 0 else "-",
                    or_dash(d["samples"]),
                    mib(d["memory_available_bytes"]),
                    _degrees(d["temperature_c"]),
                ]
                for d in found["devices"]
            ],
        ),
    ]
    lines += _warned(found["devices"])
    if found.get("messages_denied"):
        kinds = ", ".join(f"{kind} ({count})" for kind, count in found["messages_denied"].items())
        lines += ["", f"the broker denies what the hub says: {kinds}; look at its access list"]
    if found["certificates_late"]:
        late = [f"{name} ({_left(s)})" for name, s in found["certificates_late"].items()]
        lines += ["", f"boards that should have renewed their certificate: {', '.join(late)}"]
    if found["tokens_open"]:
        lines += ["", f"claim tokens are open for {', '.join(found['tokens_open'])}"]
    if found.get("messages_ignored"):
        lines += ["", f"{found['messages_ignored']} messages ignored; the last:", *found["ignored_because"][-3:]]
    if found["rounds_open"]:
        lines += ["", rounds_text(found["rounds_open"])]
    return "\n".join(lines)


def _degrees(celsius: float | None) -> str:
    return "-" if celsius is None else f"{celsius:.0f} °C"


def _warned(devices: list[Row]) -> list[str]:
    """What boards that are there say of themselves that is not as it should be."""
    warn = [d for d in devices if d["online"] and d["warnings"]]
    said = [f"{d['device']}: {shown(', '.join(d['warnings'][:MOST_WARNINGS]))}" for d in warn]
    return ["", "boards that warn (docs/doctor.md):", *said] if said else []


def _late(home: Home, now_s: float) -> dict[str, float]:
    """Devices whose certificate is in the last quarter of its life, and the seconds left; they renew before that."""
    quarter_s = home.config.identity.certificate_days * 86400 / 4
    ends = {row["name"]: row["expires_at_s"] for row in home.ledger.devices() if not row["revoked"]}
    return {name: round(at - now_s, 1) for name, at in ends.items() if at is not None and at - now_s < quarter_s}


def _left(left_s: float) -> str:
    return f"{words(left_s)} left" if left_s > 0 else "it has run out"


def _model(found: Row) -> str:
    trial = found["trial"]
    tried = f", on trial version {trial['version']} on {trial['group']} ({trial['state']})" if trial else ""
    return (
        f"model {found['model']}: tip {version_named(found['tip'])}, released {version_named(found['released'])}{tried}"
    )
