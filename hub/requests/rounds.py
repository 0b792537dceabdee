"""Requests about rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from console.errors import HubError, UsageError
from hub.aggregation.methods import method_of
from hub.making.model import Model, model_of
from hub.making.recipe import chosen, fits
from hub.making.versions import read_made, read_scales
from hub.masking.opening import secure_round
from hub.privacy.noise import new_secret
from hub.privacy.opening import private_round
from hub.privacy.promise import put_secret
from hub.requests.splitting import LEARNS, half_for, left_out, seats_of
from hub.requests.versions import with_head
from hub.rounds.boards import boards_of
from hub.rounds.following import due, served_ranks
from hub.rounds.modes import mode_of
from hub.rounds.resting import of_one_rank, with_factors
from hub.rounds.seating import has_judges
from hub.rounds.selection import Selection, choose, selection_of
from hub.rounds.state import Round, Seat, Stopped
from hub.serving.desk import Desk
from hub.serving.service import Service
from hub.show import rounds as show_rounds
from hub.store.ledger import Row
from hub.store.names import version_digest
from wire.manifest import parse_manifest
from wire.messages import ability
from wire.thin.table import NONE

TRAIN = {
    "steps": 8,
    "batch": 16,
    "learning_rate": 5e-4,
    "beta1": 0.9,
    "beta2": 0.99,
    "weight_decay": 0.0,
}
# what a train job brings, where it is not the factors alone, and how
LEARNT = ("kinds", "head", "trainer", "directions", "prune_gamma", "prune_lambda")
KINDS = ("lora", "bias")
TRAINERS = ("backprop", "spry", "qzo")
DIRECTIONS = 8  # of spry and qzo, for each step
QZO = {"kinds": ["scales"], "learning_rate": 1e-2}  # the rate is in the logarithm of a scale


def _list(service: Service, request: Row) -> Row:
    model = request.get("model")
    rounds = service.home.ledger.rounds()
    return {"rounds": [show_rounds.round_line(r) for r in rounds if not model or r.model == model]}


def _show(service: Service, request: Row) -> Row:
    return show_rounds.round_view(service.home, int(request["round"]))


def _stop(desk: Desk, request: Row) -> Row:
    number, conductor = int(request["round"]), desk.conductor
    if number not in conductor.open:
        raise HubError(f"expected an open round, found {number}; see `edgequilt hub round list`")
    conductor.tell(number, Stopped("stopped by hand"))
    return show_rounds.round_view(desk.home, number)


def _open(desk: Desk, request: Row) -> Row:
    recipe = chosen(desk.home.config.aggregation, request.get("recipe") or {})
    conductor, ledger, kind = desk.conductor, desk.home.ledger, request["kind"]
    if kind != "evaluate":
        busy = [r.number for r in conductor.open.values() if r.kind != "evaluate"]
        if busy:
            raise HubError(
                f"expected no open round that makes a version, found round {busy[0]}; wait for it, or stop it with "
                f"`edgequilt hub round stop {busy[0]}`"
            )
    if kind == "statistics" and not conductor.model.features:
        raise HubError(f"expected a model with a head, found that {conductor.model.id} has none; open a train round")
    number = ledger.last_round() + 1
    told = desk.home.config.rounds
    deadline_s = float(request.get("deadline_s") or told.deadline_s)
    candidate = request.get("gate")
    settings = _learnt(conductor.model, _settings(kind, number, _ranks(desk), request))
    method = method_of(recipe.method)
    if kind == "train":
        settings = with_factors(method, [r for r in ledger.rounds() if r.model in ("", conductor.model.id)], settings)
        fits(recipe, settings)
        settings |= {"thin": recipe.thin} if recipe.thin != NONE else {}
        _scales(desk, ledger.tip(conductor.model.id), settings, recipe.robust)
    selection, over = selection_of(request), float(request.get("over") or 0.0)
    secure = bool(request.get("secure")) or (desk.home.config.secure.required and kind != "evaluate")
    settings |= {"importance": True} if kind == "train" and not secure and _told(desk, settings) else {}
    half = half_for(kind, settings, request, secure)
    devices, wanted = _devices(desk, kind, ability(kind, settings), selection, number, over, half)
    seats = tuple(Seat(name) for name in devices)
    if kind == "train":
        of_one_rank(method, settings, [row for row in ledger.devices() if row["name"] in devices])
    if kind in LEARNS:
        seats, settings = seats_of(desk, kind, devices, settings, request, half)
    asked = sum(seat.state == "waiting" for seat in seats)
    state = Round(
        number=number,
        kind=kind,
        versions=_versions(desk, kind, request.get("versions")),
        settings=settings,
        deadline_s=deadline_s,
        deadline_at_s=desk.clock() + deadline_s,
        candidate=_gated(desk, kind, seats, secure=secure) if candidate is None else bool(candidate),
        seats=seats,
        recipe=recipe,
        model=conductor.model.id,
        then=_then(desk, kind, "none" if secure and not request.get("then") else request.get("then")),
        selection=selection,
        over=over,
        **mode_of(request, kind, told.quorum, asked, min(wanted, asked), settings, recipe),
    )
    if secure:
        state = secure_round(desk.home, state, request.get("threshold"))
    if desk.home.config.privacy.noise and kind != "evaluate":
        state, secret = private_round(desk.home, state), new_secret()
        conductor.begin(state, lambda tx: put_secret(tx, number, secret))
    else:
        conductor.begin(state)
    return show_rounds.round_view(desk.home, number)


def _gated(desk: Desk, kind: str, seats: Sequence[Seat], *, secure: bool) -> bool:
    """Whether what a round makes is a candidate, where nobody says: a new head is, and what needs none."""
    whole = kind == "train" and not desk.conductor.model.features and not desk.home.config.privacy.noise
    return (kind == "statistics" or whole) and not secure and has_judges(desk.home, seats)


def _then(desk: Desk, kind: str, wanted: str | None) -> Literal["", "statistics"]:
    """Whether a round of statistics follows by itself: because it was asked for, or because a new head is due."""
    if wanted == "none":
        return ""
    if wanted not in (None, "", "statistics") or (wanted and kind != "train"):
        raise UsageError(
            f"expected statistics to follow a train round, found {wanted} after {kind}; open them one by one"
        )
    has_head = bool(desk.conductor.model.features)
    if wanted and not has_head:
        raise HubError(f"expected a model with a head, found that {desk.conductor.model.id} has none")
    home = desk.home
    refresh = (
        kind == "train"
        and wanted is None
        and has_head
        and due(home, desk.conductor.model.id, home.config.rounds.refresh_head)
    )
    return "statistics" if wanted or refresh else ""


def _devices(
    desk: Desk, kind: str, job: str, told: Selection, number: int, over: float, half: str
) -> tuple[list[str], int]:
    """Those that the selection chooses, and how many answers are wanted."""
    boards = boards_of(desk.home, desk.model.id)
    known = {board.name for board in boards}
    unknown = [name for name in told.devices if name not in known]
    if unknown:
        raise HubError(
            f"expected enrolled devices of model {desk.model.id}, found {', '.join(unknown)}; enroll them with "
            f"`edgequilt hub enroll`"
        )
    try:
        return choose(boards, told, job, f"{number}", over, half)
    except HubError as error:
        raise HubError(f"{error}{left_out(kind, half, boards)}") from error


def _versions(desk: Desk, kind: str, wanted: list[str] | None) -> tuple[str, ...]:
    model = desk.conductor.model.id
    if kind != "evaluate":
        return (desk.home.ledger.tip(model),)
    release = desk.home.ledger.release(model)
    names = wanted or ["released" if release else "tip"]
    found = tuple(dict.fromkeys(version_digest(desk.home, model, v) for v in names))
    for digest in found:
        with_head(desk, digest)
    return found


def _settings(kind: str, number: int, known: list[int], request: Row) -> dict[str, Any]:
    given = {k: v for k, v in (request.get("settings") or {}).items() if v is not None}
    ranks = given.pop("ranks", None)
    if kind == "train":
        rank = {"rank": ranks[0]} if ranks else {}
        trainer = given.get("trainer")
        more: dict[str, Any] = {"directions": DIRECTIONS} if trainer in ("spry", "qzo") else {}
        more |= QZO if trainer == "qzo" else {}
        return {**TRAIN, "seed": number, **rank, **more, **_only(given, (*TRAIN, "seed", *LEARNT))}
    if kind == "evaluate":
        return {"split": given.get("split", "holdout"), **({"ranks": ranks} if ranks else {})}
    # Each prefix of the ladder makes features of its own, so each rank of the fleet gets a head of its own.
    return {"ranks": known, **_only(given, ("minimum_per_class",))}


def _learnt(model: Model, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, if the model has a place for all that is to learn."""
    kinds, forward = settings.get("kinds", ["lora"]), settings.get("trainer", "backprop") != "backprop"
    known = ("scales",) if settings.get("trainer") == "qzo" else KINDS
    if not isinstance(kinds, list) or not kinds or any(kind not in known for kind in kinds):
        raise UsageError(f"expected kinds among {', '.join(known)}, found {kinds}")
    if "bias" in kinds and not model.biases:
        raise HubError(f"expected places for biases in {model.id}, found none; export with --adapter-kinds lora,bias")
    if settings.get("trainer", "backprop") not in TRAINERS:
        raise UsageError(f"expected a trainer among {', '.join(TRAINERS)}, found {settings['trainer']!r}")
    if not 1 <= settings.get("directions", 1) <= 65_536:
        raise UsageError(f"expected 1 to 65,536 directions, found {settings['directions']}")
    gamma, strength = settings.get("prune_gamma", 1.0), settings.get("prune_lambda", 0.0)
    if not 0 <= gamma <= 1 or not 0 <= strength < math.inf or (gamma < 1 and forward):
        raise UsageError(f"expected to prune by backprop, gamma 0 to 1, lambda 0 or more, found {gamma} and {strength}")
    if forward and ("bias" in kinds or settings.get("head")):
        raise UsageError("expected forward passes to train one kind, found biases or a head; train those by backprop")
    if settings.get("head") and not model.features:
        raise HubError(f"expected a model with a head, found that {model.id} has none; train without --train-head")
    return settings


def _told(desk: Desk, settings: dict[str, Any]) -> bool:
    """Whether boards are asked how much their slots matter: where nothing is promised, and gradients are made."""
    config = desk.home.config
    learns = settings.get("trainer", "backprop") == "backprop" and "lora" in settings.get("kinds", ["lora"])
    return config.rounds.importance and not config.privacy.noise and learns


def _scales(desk: Desk, version: str, settings: dict[str, Any], robust: str) -> None:
    """Check a round of training against the scales of the fleet: whose they are, and whether they were moved.

    Raises:
        HubError, UsageError: scales cannot be moved together, or what was moved cannot be trained through.
    """
    home, trainer = desk.home, settings.get("trainer", "backprop")
    made = read_made(home.ledger.version(version) or {}).version
    if trainer == "backprop" and read_scales(made, home.blobs) is not None:
        raise HubError(
            f"expected a version whose scales are where they were, found that version {made.version} moves them, of "
            f"which backward graphs know nothing; train by spry or qzo"
        )
    if trainer != "qzo":
        return
    found = {
        model_of(parse_manifest(row["manifest"], "a bundle in the ledger")).scales
        for row in home.ledger.bundles(made.model)
    }
    if len(found) > 1 or () in found:
        raise HubError(
            "expected bundles of one format whose scales can be moved, found others; export with --scale-inputs and "
            "one --quant for all boards"
        )
    if not made.head:
        raise HubError("expected a version with a head to train scales below it, found none; open a statistics round")
    if robust != "none":
        raise UsageError(f"expected no robust rule for factors of scales, found {robust}: it does not look at them")


def _ranks(desk: Desk) -> list[int]:
    """The ranks that devices serve at; only 0 while no direction carries anything, since all prefixes are alike."""
    home, model = desk.home, desk.conductor.model.id
    tip = read_made(home.ledger.version(home.ledger.tip(model)) or {}).version
    first = read_made(home.ledger.versions(model)[0]).version
    return [0] if tip.rungs == first.rungs else served_ranks(home, model)


def _only(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k in names}


READING: dict[str, Callable[[Service, Row], Row]] = {"list": _list, "show": _show}
TABLE: dict[str, Callable[[Desk, Row], Row]] = {"open": _open, "stop": _stop}
