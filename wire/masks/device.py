"""A board's side of a sum under masks as a table without I/O: secure aggregation against a hub that may lie.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, figure 4.

    stage      what comes              next stage  what the board then says or does
    ---------  ----------------------  ----------  -------------------------------------------------------
    -          its job is done         keys        two public keys, and a commitment to the seed of its mask
    keys       roster                  shares      to each board, sealed: a share of its mask key and of its seed
    shares     what others sealed      masked      its update plus the masks of pairs and its own
    masked     survivors               agreed      to each survivor, by a key of the two: these were named to me
    agreed     what others were told   revealed    of survivors the share of the seed, of others that of the key
    any        the same once more      as it was   the same answer, to the byte
    any        another of its kind     as it was   refused: what is opened must fit one story

Never both shares of one board: whoever has both opens its update. The paper has boards sign the survivors; here they
tag them with HMAC under keys of pairs, since boards know one another by the roster alone. With a threshold above half
of the boards no two lists find enough boards that were told them. State is committed before an answer leaves.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from secrets import compare_digest, token_bytes
from typing import Literal

from console.errors import BadData, join
from wire.masks import shamir
from wire.masks.agreement import KEY_BYTES, agree, decrypt, encrypt, public_of
from wire.masks.shamir import SHARE_BYTES
from wire.masks.told import Told

Stage = Literal["keys", "shares", "masked", "agreed", "revealed"]


@dataclass(frozen=True)
class PublicKeys:
    """What a board says of itself: two X25519 keys and SHA-256 of its seed."""

    sealing: bytes
    masking: bytes
    commitment: bytes


@dataclass(frozen=True)
class Seeds:
    """What a board masks its update with (wire.masks.pairwise): seeds to add and to take away, in that order."""

    plus: tuple[bytes, ...] = field(repr=False)
    minus: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class Masking:
    """What a board knows of one sum; secrets are emptied when they have done their work."""

    job: str
    round: int
    device: str
    threshold: int
    boards: int
    stage: Stage = "keys"
    sealing_secret: bytes = field(default=b"", repr=False)
    masking_secret: bytes = field(default=b"", repr=False)
    seed: bytes = field(default=b"", repr=False)
    roster: dict[str, bytes] = field(default_factory=dict)  # by device: its sealing key, then its masking key
    sealed: dict[str, bytes] = field(default_factory=dict)  # what it said to each
    held: dict[str, bytes] = field(default_factory=dict, repr=False)  # by whose: share of seed, then of key
    survivors: tuple[str, ...] = ()

    @property
    def public(self) -> PublicKeys:
        """What the board publishes while its stage is `keys`."""
        commitment = hashlib.sha256(self.seed).digest()
        return PublicKeys(public_of(self.sealing_secret), public_of(self.masking_secret), commitment)


def begin(job: str, number: int, device: str, told: Told, random: Callable[[int], bytes] = token_bytes) -> Masking:
    """The job is done: draw the secrets of its sum."""
    secrets = (random(KEY_BYTES), random(KEY_BYTES), random(KEY_BYTES))
    return Masking(job, number, device, told.threshold, told.boards, "keys", *secrets)


def on_roster(state: Masking, keys: Mapping[str, PublicKeys]) -> Masking:
    """Share the secrets with the boards of a roster; `sealed` is then what is said.

    Raises:
        BadData: the roster is not one that the board can believe, or another one than before.
    """
    roster = {name: keys[name].sealing + keys[name].masking for name in sorted(keys)}
    if state.stage != "keys":
        return _same(state, dict(state.roster) == roster, "roster")
    _check_roster(state, roster)
    seeds = shamir.split(state.seed, state.threshold, len(roster))
    secrets = shamir.split(state.masking_secret, state.threshold, len(roster))
    shares = {name: seeds[place] + secrets[place] for place, name in enumerate(roster)}
    sealed = {
        name: encrypt(_pair_key(state, roster[name], state.device, name), share, _about(state, state.device, name))
        for name, share in shares.items()
        if name != state.device
    }
    held = {state.device: shares[state.device]}
    return replace(state, stage="shares", roster=roster, sealed=sealed, held=held)


def on_sealed(state: Masking, sealed: Mapping[str, bytes]) -> Masking:
    """Open what others shared; `seeds_of` then says what to mask the update with.

    Raises:
        BadData: too few boards, strangers, bytes that do not open, or other boards than before.
    """
    if state.stage not in ("shares", "masked"):
        raise BadData(f"expected {state.job} to wait for shares, found it at {state.stage}; nothing is done")
    others = set(sealed) - {state.device}
    if state.stage == "masked":
        return _same(state, {*others, state.device} == set(state.held), "list of boards to mask against")
    strangers = sorted(others - set(state.roster))
    if strangers or len(others) + 1 < state.threshold:
        raise BadData(
            f"expected shares of {state.threshold} boards of the roster with this one, found {len(others) + 1}"
            f"{f' and strangers ({join(strangers)})' if strangers else ''}; nothing is masked"
        )
    held = dict(state.held)
    for name in sorted(others):
        key = _pair_key(state, state.roster[name], name, state.device)
        share = decrypt(key, sealed[name], _about(state, name, state.device))
        if len(share) != 2 * SHARE_BYTES:
            raise BadData(f"expected two shares from {name}, found {len(share)} bytes; nothing is masked")
        held[name] = share
    return replace(state, stage="masked", held=held)


def seeds_of(state: Masking) -> Seeds:
    """The seeds of the masks of an update, while its stage is `masked` and its secrets are there."""
    plus, minus = [state.seed], list[bytes]()
    for name in sorted(set(state.held) - {state.device}):
        seed = pair_seed(state.masking_secret, state.roster[name][KEY_BYTES:])
        (plus if adds(state.device, name) else minus).append(seed)
    return Seeds(tuple(plus), tuple(minus))


def masked(state: Masking) -> Masking:
    """The masked update is kept: the secrets of the board's masks have done their work."""
    return replace(state, masking_secret=b"", seed=b"", sealed={})


def on_survivors(state: Masking, survivors: tuple[str, ...]) -> tuple[Masking, dict[str, bytes]]:
    """Say to each survivor who was named; the tags by whom they are for.

    Raises:
        BadData: too few, strangers, without this board, or others than before.
    """
    named = tuple(sorted(set(survivors)))
    if state.stage not in ("masked", "agreed"):
        raise BadData(f"expected {state.job} to have masked its update, found it at {state.stage}; nothing is said")
    if state.stage == "agreed":
        return _same(state, named == state.survivors, "list of survivors"), _tags(state)
    strangers = sorted(set(named) - set(state.held))
    if strangers or state.device not in named or len(named) < state.threshold:
        raise BadData(
            f"expected {state.threshold} survivors or more, this board among them, all of whom it masked against, "
            f"found {join(list(named))}; nothing is revealed"
        )
    after = replace(masked(state), stage="agreed", survivors=named)
    return after, _tags(after)


def on_open(state: Masking, tags: Mapping[str, bytes]) -> tuple[Masking, dict[str, bytes], dict[str, bytes]]:
    """Reveal what opens the sum: shares of seeds of survivors, shares of keys of the others.

    Raises:
        BadData: fewer boards than the threshold were told the same survivors.
    """
    if state.stage == "revealed":
        return state, *_revealed(state)
    if state.stage != "agreed":
        raise BadData(f"expected {state.job} to have its survivors, found it at {state.stage}; nothing is revealed")
    others = [name for name in state.survivors if name != state.device and name in tags]
    alike = 1 + sum(compare_digest(tags[name], _tag(state, name, state.device)) for name in others)
    if alike < state.threshold:
        raise BadData(
            f"expected {state.threshold} boards that were told the same survivors, found {alike} with this one; "
            f"nothing is revealed"
        )
    kept = {
        name: share[:SHARE_BYTES] if name in state.survivors else share[SHARE_BYTES:]
        for name, share in sorted(state.held.items())
    }
    after = replace(state, stage="revealed", held=kept, sealing_secret=b"")
    return after, *_revealed(after)


def pair_seed(secret: bytes, public: bytes) -> bytes:
    """The seed of the mask of two boards."""
    return agree(secret, public, "mask")


def adds(one: str, other: str) -> bool:
    """Whether the first of two boards adds their mask; the other one takes it away.

    >>> adds("barn", "coop"), adds("coop", "barn")
    (True, False)
    """
    return one < other


def place_of(roster: Mapping[str, object], name: str) -> int:
    """At which place a board's shares are, from 1 on."""
    return sorted(roster).index(name) + 1


def _revealed(state: Masking) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What was said of survivors and of the others; the other shares are gone."""
    seeds = {name: share for name, share in state.held.items() if name in state.survivors}
    return seeds, {name: share for name, share in state.held.items() if name not in seeds}


def _check_roster(state: Masking, roster: Mapping[str, bytes]) -> None:
    own = public_of(state.sealing_secret) + public_of(state.masking_secret)
    twice = len({key for keys in roster.values() for key in (keys[:KEY_BYTES], keys[KEY_BYTES:])}) < 2 * len(roster)
    problems = {
        "it is not in it with its own keys": roster.get(state.device) != own,
        f"it has {len(roster)} boards, more than the {state.boards} of the job": len(roster) > state.boards,
        f"it has {len(roster)} boards, fewer than the threshold of {state.threshold}": len(roster) < state.threshold,
        "two boards have one key": twice,
    }
    found = [problem for problem, holds in problems.items() if holds]
    if found:
        raise BadData(f"expected a roster that {state.device} can share its secrets with, but {join(found)}")


def _tags(state: Masking) -> dict[str, bytes]:
    """What a board says to each other survivor of the list that it was told."""
    return {name: _tag(state, state.device, name) for name in state.survivors if name != state.device}


def _tag(state: Masking, sender: str, receiver: str) -> bytes:
    """HMAC-SHA256 of the round and the survivors, under a key of the two boards."""
    peer = receiver if sender == state.device else sender
    key = agree(state.sealing_secret, state.roster[peer][:KEY_BYTES], f"survivors {sender} {receiver}")
    return hmac.digest(key, "\n".join([f"round {state.round}", *state.survivors]).encode(), "sha256")


def _pair_key(state: Masking, keys: bytes, sender: str, receiver: str) -> bytes:
    """The key of what one board seals to another."""
    return agree(state.sealing_secret, keys[:KEY_BYTES], f"share {sender} {receiver}")


def _about(state: Masking, sender: str, receiver: str) -> str:
    return f"shares of round {state.round} from {sender} to {receiver}"


def _same(state: Masking, holds: bool, what: str) -> Masking:
    if not holds:
        raise BadData(
            f"expected the {what} that {state.job} had before, found another one; a second story would open single "
            f"updates, so nothing is answered"
        )
    return state
