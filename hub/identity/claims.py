"""Claim tokens: made for a name, used once, by one pair of keys. The ledger holds a hash of the secret only."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from console.errors import HubError, UsageError, join
from hub import authority
from hub.identity.grant import Where, granted
from hub.store import schema as t
from hub.store.database import insert
from hub.store.ledger import Row
from hub.store.registry import Home, check_name, enroll
from hub.store.writes import put_device, put_row
from wire.identity import Claim, Granted
from wire.keys import parse_public_key
from wire.token import Token, new_secret

LONGEST_S, SHORTEST_S = 366 * 86400.0, 60.0
WRONG = "expected a claim token that holds, found none of this hub; make one with `edgequilt hub enroll NAME`"


def make(home: Home, names: Sequence[str], expires_s: float, replace: bool, now_s: float, at: list[str]) -> list[Token]:
    """A new token for each name; one that the name had before is worth nothing from then on.

    Args:
        home: the hub's folder, opened.
        names: of devices to be.
        expires_s: how long the tokens hold.
        replace: names may be those of devices, which then get another key.
        now_s: the hub's time.
        at: HOST:PORT of its HTTPS.

    Raises:
        UsageError: a name is none, or they would hold too long or too briefly.
        HubError: a name is that of a device, or revoked; nothing is made then.
    """
    if not SHORTEST_S <= expires_s <= LONGEST_S:
        raise UsageError(f"expected tokens that hold 1m to 366d, found {expires_s:g} s")
    for name in names:
        check_name(name)
    for name in names:
        _admitted(home, name)
    taken = [name for name in dict.fromkeys(names) if home.ledger.device(name) is not None]
    if taken and not replace:
        raise HubError(
            f"expected names that are new, found enrolled {join(taken)}; choose others, or say --replace for boards "
            f"that begin anew"
        )
    mine = authority.create(home.config.fleet, home.folder)
    tokens = [
        Token(tuple(at), home.config.fleet, name, new_secret(), mine.fingerprint) for name in dict.fromkeys(names)
    ]
    with home.ledger.transaction() as tx:
        for token in tokens:
            made = {"hash": _hash(token.secret), "made_at_s": now_s, "expires_at_s": now_s + expires_s}
            _put(tx, token.name, replace=replace, used_at_s=None, key="", request="", certificate=None, **made)
    return tokens


def shown(tokens: Sequence[Token]) -> Row:
    """New tokens for whoever asked for them, and where they send boards."""
    at = list(tokens[0].addresses) if tokens else []
    return {"tokens": [{"name": token.name, "token": token.text} for token in tokens], "addresses": at}


def cancel(home: Home, names: Sequence[str]) -> list[str]:
    """Make tokens worthless; returns the names that had one.

    Raises:
        HubError: a name has none; nothing is cancelled then.
    """
    unknown = [name for name in names if home.ledger.claim(name) is None]
    if unknown:
        raise HubError(f"expected names with a claim token, found {join(unknown)} without; see `hub enroll --list`")
    with home.ledger.transaction() as tx:
        tx.execute(t.claims.delete().where(t.claims.c.name.in_(list(names))))
    return list(names)


def outstanding(home: Home, now_s: float) -> list[Row]:
    """All tokens: whose, until when, and whether each is open, used or expired."""
    return [
        {
            "name": row["name"],
            "state": _state(row, now_s),
            "expires_in_s": round(row["expires_at_s"] - now_s, 1),
            "key": row["key"],
        }
        for row in home.ledger.claims()
    ]


def use(home: Home, claim: Claim, where: Where, now_s: float) -> Granted:
    """Enrol the board that claims; the same keys get the same answer again, for as long as the token holds.

    What is wrong with a token is told to who knows its secret; to all others every token is equally wrong.

    Raises:
        HubError: the token does not hold.
        SignatureError: key or request are none.
    """
    row = home.ledger.claim(claim.name)
    known = "" if row is None else row["hash"]
    right = hmac.compare_digest(_hash(bytes.fromhex(claim.secret)), known or "0" * 64)
    if row is None or not right or claim.fleet != home.config.fleet:
        raise HubError(WRONG)
    key = parse_public_key(claim.key, "device", f"the claim of {claim.name}")
    request = authority.request_digest(claim.name, claim.request.encode())
    if now_s > row["expires_at_s"]:
        raise HubError(f"expected a claim token that still holds, found one of {claim.name} that has expired; make one")
    if row["used_at_s"] is not None:
        if (row["key"], row["request"]) != (key.id, request):
            raise HubError(
                f"expected a claim token that was not used, found that another board is {claim.name} by it; if that "
                f"is none of yours, revoke it"
            )
        _admitted(home, claim.name)
        return granted(home, claim.name, row["certificate"], where, now_s)
    days = home.config.identity.certificate_days
    made = authority.issue_device(authority.load(home.folder), claim.name, claim.request.encode(), days)

    answer = granted(home, claim.name, made, where, now_s)

    def used(tx: Connection) -> None:
        _put(tx, claim.name, used_at_s=now_s, key=key.id, request=request, certificate=made)
        put_device(tx, claim.name, expires_at_s=answer.expires_at_s)
        text = f"{claim.name} came by a claim token, with key {key.id}"
        put_row(tx, t.events, {"at_s": now_s, "round": None, "device": claim.name, "text": text})

    _admitted(home, claim.name)
    enroll(home, claim.name, key.line, replace=row["replace"], also=used)
    return answer


def _admitted(home: Home, name: str) -> None:
    device = home.ledger.device(name)
    if device is not None and device["revoked"]:
        raise HubError(
            f"expected a name that is not revoked, found {name}, whose former certificate would open the broker again; "
            f"give the board another name"
        )


def _state(row: Row, now_s: float) -> str:
    if row["used_at_s"] is not None:
        return "used"
    return "expired" if now_s > row["expires_at_s"] else "open"


def _put(tx: Connection, name: str, **values: Any) -> None:
    if "hash" not in values:
        tx.execute(t.claims.update().where(t.claims.c.name == name).values(**values))
        return
    statement = insert(tx, t.claims).values(name=name, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def _hash(secret: bytes) -> str:
    return hashlib.sha256(b"edgequilt/claim\0" + secret).hexdigest()
