"""How a round of a sum under masks begins: refused with reasons, or with its terms in the settings of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from console.errors import HubError, UsageError, join
from hub.masking.secure import Secure, SecureConfig
from hub.rounds.state import Round
from hub.store.registry import Home
from wire.masks.told import LEAST_BOARDS, MOST_BOARDS, SETTING, Told, room
from wire.record import plain

LINEAR_IN_B = ("ffa", "nested-ffa")
# what a job of training may ask for; anything else (how an update is made smaller, say) has to be thought of first
KNOWN = {
    *("steps", "batch", "learning_rate", "beta1", "beta2", "weight_decay", "seed", "rank", "kinds", "head", "trainer"),
    *("directions", "factors", "prune_gamma", "prune_lambda"),
}
ABILITY = "secure"
NOISE = (
    "noise is made at the hub of updates that it has clipped (privacy.noise); under masks, boards would have to clip "
    "and add noise themselves"
)
POINT_BITS = 40  # behind the point at most; fewer where a sum would run over


def secure_round(home: Home, state: Round, threshold: int | None) -> Round:
    """The round as it is to be opened.

    Args:
        home: the hub's folder, opened.
        state: the round, with the boards that are asked.
        threshold: how many must be left at the end; None: what hub.toml says.

    Raises:
        UsageError: something about it looks at single updates, or the threshold is out of range.
        HubError: too few or too many boards, or some that do not know masks.
    """
    found = reasons(state) + ([NOISE] if home.config.privacy.noise else [])
    if found:
        raise UsageError(
            f"expected a round of which the hub need learn the sum alone, but {join(found)}; change the round, or see "
            f"docs/privacy.md"
        )
    _able(home, [s.device for s in state.seats])
    parts = [s.device for s in state.seats if s.bundle]
    if parts and state.kind == "train":
        raise HubError(
            f"expected boards with all slots for a sum under masks, found that {join(parts)} hold some of them: which "
            f"numbers are theirs would show; name others with --devices"
        )
    told = _told(home, state, home.config.secure, threshold or home.config.secure.threshold)
    quorum = max(state.quorum, told.threshold)
    settings = {**state.settings, SETTING: plain(told)}
    if state.settings.get("trainer") == "spry":  # one rank, or directions would be others
        settings |= {"shared": f"r{state.number}", "rank": told.width}
    return replace(state, secure=Secure(told), settings=settings, quorum=quorum)


def reasons(state: Round) -> list[str]:
    """Why a round needs more than a sum."""
    recipe, told = state.recipe, state.settings
    if state.kind == "evaluate":
        return ["scores are looked at board by board"]
    checks = {
        "its gate compares scores board by board (leave out --gate; release by hand)": state.candidate,
        "a round that is to follow by itself would not be one (open it with --secure)": bool(state.then),
        "who answers first decides who is in it (leave out --over and --mode buffered)": bool(state.goal),
        "each of several versions would need masks of its own (leave out --laps)": state.laps != 1,
    }
    spry = told.get("trainer") == "spry"
    if state.kind == "train":
        strange = sorted(set(told) - {*KNOWN, "thin"})
        checks |= {
            f"its jobs ask for {', '.join(strange)}, of which sums under masks know nothing": bool(strange),
            "boards that step more than once along their own derivatives stand at different places (add --steps 1)": (
                spry and told.get("steps") != 1
            ),
            f"thin updates ({recipe.thin}) are made smaller one by one, a sum needs all numbers": "thin" in told,
            f"the method {recipe.method} is not a sum of what boards send (take nested-ffa)": (
                recipe.method not in LINEAR_IN_B and not spry
            ),
            f"the robust rule {recipe.robust} looks at single updates": recipe.robust != "none",
            "weights by risk need each board's loss (take samples or uniform)": recipe.weights == "risk",
            "a trained head is averaged by declared rows of each class": bool(told.get("head")),
            "only factors are summed so, neither biases nor scales": told.get("kinds", ["lora"]) != ["lora"],
        }
    return [reason for reason, holds in checks.items() if holds]


def _able(home: Home, names: list[str]) -> None:
    if not LEAST_BOARDS <= len(names) <= MOST_BOARDS:
        raise HubError(
            f"expected {LEAST_BOARDS} to {MOST_BOARDS} boards for a sum under masks, found {len(names)}: of fewer, a "
            f"sum says much of each, and every board shares with every other one"
        )
    hellos = {row["name"]: row["hello"] or {} for row in home.ledger.devices()}
    unable = [name for name in names if ABILITY not in hellos[name].get("jobs", ())]
    if unable:
        raise HubError(
            f"expected boards that know sums under masks, found that {', '.join(unable)} said nothing of it and would "
            f"send updates as they are; update their agents, or name others with --devices"
        )


def _told(home: Home, state: Round, config: SecureConfig, threshold: int) -> Told:
    boards = len(state.seats)
    threshold = threshold or 2 * boards // 3 + 1
    if not boards < 2 * threshold or threshold > boards:
        raise UsageError(
            f"expected a threshold above half of the {boards} boards and not above all, found {threshold}: with less, "
            f"two halves of them could be asked differently"
        )
    if state.kind == "statistics":
        return Told(threshold, boards, config.bound, _bits(boards, config.bound))
    rows, spry = config.rows if state.recipe.weights == "samples" else 0, state.settings.get("trainer") == "spry"
    clip, width = config.scalar_clip if spry else config.clip, _width(home, state, min if spry else max)
    bound = max(1.0, clip) * config.rows
    return Told(threshold, boards, bound, _bits(boards, bound), width, rows, clip)


def _bits(boards: int, bound: float) -> int:
    """As many bits behind the point as there is room for."""
    return next(bits for bits in range(POINT_BITS, -1, -1) if room(boards, bound, bits))


def _width(home: Home, state: Round, of: Callable[[list[int]], int]) -> int:
    """The largest (or smallest) rank that a board trains at, as far as they have said."""
    hellos = {row["name"]: row["hello"] or {} for row in home.ledger.devices()}
    most = int(state.settings.get("rank", home.config.adapter.rank))
    return of([min(int(hellos[s.device].get("rank", 0)), most, home.config.adapter.rank) for s in state.seats])
