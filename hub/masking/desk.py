"""What boards say of a sum under masks, into the ledger, and what each of them is asked next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console.errors import BadData
from hub.masking.making import said
from hub.masking.secure import Secure
from hub.rounds.names import job_id
from hub.rounds.refusal import is_asked, seat_of
from hub.rounds.state import Arrived, Ask, Round
from hub.store.ledger import Row
from hub.store.registry import Home
from hub.store.writes import put_mask
from wire.masks.agreement import KEY_BYTES
from wire.masks.shamir import SHARE_BYTES
from wire.messages import (
    MaskAgreed,
    MaskKeys,
    MaskOpen,
    MaskReveal,
    MaskRoster,
    MaskSealed,
    MaskShares,
    MaskSurvivors,
    decode,
    encode,
)

TAG_BYTES = 32
SEALED_LIMIT_BYTES = 256  # two shares of 33 bytes, a nonce and a tag


def question(home: Home, state: Round, secure: Secure, action: Ask) -> Any:
    """What a board is asked at a stage after its job is done."""
    device, number = action.device, state.number
    job = job_id(number, state.kind, device, action.turn)
    if secure.stage == "shares":
        keys = said(home, number, "keys")
        return MaskRoster(device, job, {name: keys[name] for name in secure.roster})
    if secure.stage == "masked":
        shares = {n: decode(b, MaskShares).sealed for n, b in said(home, number, "shares").items()}
        return MaskSealed(device, job, {n: shares[n][device] for n in secure.maskers if n != device})
    if secure.stage == "agreed":
        return MaskSurvivors(device, job, secure.survivors)
    tags = {n: decode(b, MaskAgreed).tags for n, b in said(home, number, "agreed").items() if n != device}
    return MaskOpen(device, job, {n: found[device] for n, found in tags.items()})


def entry(
    state: Round, message: MaskKeys | MaskShares | MaskAgreed | MaskReveal, envelope: bytes, now_s: float
) -> tuple[Any, Row]:
    """The event of what a board said at its round's stage, and what is kept of it.

    Raises:
        BadData: it is not what was asked.
    """
    secure, device = state.secure, message.sender.device
    stage, problem = _CHECKS[type(message)]
    if secure is None or secure.stage != stage or state.phase != "collecting":
        raise BadData(f"expected what round {state.number} collects now, found {stage} of {device}; it was ignored")
    seat = seat_of(state.seats, device)
    if not is_asked(state, message.job, device) or seat is None or seat.state != "waiting":
        raise BadData(f"expected {stage} of a board that round {state.number} waits for, found {device}; ignored")
    why = problem(secure, message)
    if why:
        raise BadData(f"expected {stage} of {device} for round {state.number}, but {why}; it was ignored")
    body = envelope if stage == "keys" else encode(message)
    row = {"round": state.number, "stage": stage, "device": device, "body": body}
    return Arrived(device, stage=stage, now_s=now_s), row


def write(row: Row) -> Callable[[Any], None]:
    """Keep it."""
    return lambda tx: put_mask(tx, row)


def _keys(secure: Secure, message: Any) -> str:
    sizes = {len(message.sealing), len(message.masking), len(message.commitment)}
    return "" if sizes == {KEY_BYTES} else f"they are not of {KEY_BYTES} bytes each"


def _shares(secure: Secure, message: Any) -> str:
    if set(message.sealed) != set(secure.roster) - {message.sender.device}:
        return "they are not for everybody else of the roster"
    return "" if all(len(s) <= SEALED_LIMIT_BYTES for s in message.sealed.values()) else "they are too long"


def _agreed(secure: Secure, message: Any) -> str:
    if set(message.tags) != set(secure.survivors) - {message.sender.device}:
        return "it is not to all other survivors"
    return "" if {len(tag) for tag in message.tags.values()} <= {TAG_BYTES} else f"it is not of {TAG_BYTES} bytes each"


def _reveals(secure: Secure, message: Any) -> str:
    dropped = set(secure.maskers) - set(secure.survivors)
    if set(message.seeds) != set(secure.survivors) or set(message.keys) != dropped:
        return "they are not of the survivors' seeds and the others' keys"
    sizes = {len(share) for share in (*message.seeds.values(), *message.keys.values())}
    return "" if sizes == {SHARE_BYTES} else f"they are not of {SHARE_BYTES} bytes each"


_CHECKS: dict[Any, tuple[str, Callable[[Secure, Any], str]]] = {
    MaskKeys: ("keys", _keys),
    MaskShares: ("shares", _shares),
    MaskAgreed: ("agreed", _agreed),
    MaskReveal: ("reveals", _reveals),
}
