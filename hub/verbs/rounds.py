"""`edgequilt hub round`: open rounds and look at them."""

from __future__ import annotations

import argparse
from typing import Any

from console.arguments import above_zero, whole
from console.errors import HubError
from hub.rounds.halves import WORDS
from hub.show import rounds as show_rounds
from hub.verbs import recipe, selection
from hub.verbs.common import Row, add_verb, ask, names, numbers, say
from hub.verbs.waiting import wait

TRAINERS = ("backprop", "spry", "qzo")


def parse(verbs: Any) -> None:
    """Its verbs and their options."""
    parser = verbs.add_parser("round", help="open rounds and look at them")
    rounds = parser.add_subparsers(dest="round_verb", required=True)
    opened = add_verb(rounds, "open", _round_open, "open a round")
    opened.add_argument("--kind", choices=("statistics", "train", "evaluate"), required=True)
    selection.parse(opened)
    opened.add_argument("--steps", type=whole(1))
    opened.add_argument("--batch", type=whole(1))
    opened.add_argument("--learning-rate", type=above_zero)
    opened.add_argument("--seed", type=whole(0))
    opened.add_argument("--ranks", type=numbers, help="evaluate: at these ranks; train: at most this rank")
    opened.add_argument("--kinds", type=names, help="train: what learns, of lora and bias, with commas (default: lora)")
    opened.add_argument("--trainer", choices=TRAINERS, help="train: spry and qzo step by forward passes alone")
    opened.add_argument("--prune-gamma", type=float, metavar="X", help="train: of directions that are safe; 1: all")
    opened.add_argument("--prune-lambda", type=float, metavar="X", help="train: weight of the other ones in the loss")
    opened.add_argument("--directions", type=whole(1), help="train by forward passes: so many (default: 8)")
    opened.add_argument(
        "--train-head", action="store_true", default=None, dest="head_learns", help="train: the head learns too"
    )
    opened.add_argument("--coding", choices=WORDS["coding"], help="fronts: how numbers cross to the tail and back")
    opened.add_argument("--labels", choices=WORDS["labels"], help="fronts: whether labels go along to the tail")
    opened.add_argument("--split-mode", choices=WORDS["mode"], help="fronts: meet the tail in every step, or once")
    opened.add_argument("--split", choices=("holdout", "all"), help="evaluate: on which rows")
    opened.add_argument("--minimum-per-class", type=whole(0), help="statistics: leave out classes with fewer rows")
    opened.add_argument("--versions", type=names, help="evaluate: numbers, tip or released, with commas")
    opened.add_argument(
        "--gate",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the result is a candidate for release (default: after statistics)",
    )
    opened.add_argument(
        "--then", choices=("statistics",), help="train: the round that follows by itself and makes a new head"
    )
    opened.add_argument(
        "--secure", action="store_true", default=None, help="the hub learns the sum of the updates and no single one"
    )
    opened.add_argument(
        "--threshold", type=whole(1), metavar="N", help="secure: so many boards must be left at the end"
    )
    opened.add_argument("--deadline", type=above_zero, metavar="S", help="seconds")
    recipe.parse(opened)
    opened.add_argument("--wait", action="store_true", help="until the round is done")
    shown = add_verb(rounds, "show", _round_show, "everything about a round", of_model=False)
    shown.add_argument("number", type=whole(1))
    add_verb(rounds, "list", _round_list, "all rounds")
    stop = add_verb(rounds, "stop", _round_stop, "end an open round; nothing is made of it", of_model=False)
    stop.add_argument("number", type=whole(1))


def _round_open(options: argparse.Namespace) -> int:
    settings = {
        n: getattr(options, n)
        for n in (
            "steps",
            "batch",
            "learning_rate",
            "seed",
            "ranks",
            "split",
            "minimum_per_class",
            "kinds",
            "trainer",
            "directions",
            "prune_gamma",
            "prune_lambda",
        )
    }
    settings["head"] = options.head_learns
    request = {
        "request": "open",
        "kind": options.kind,
        **selection.selection_of(options),
        "settings": settings,
        "versions": options.versions,
        "gate": options.gate,
        "recipe": recipe.recipe_of(options),
        "deadline_s": options.deadline,
        "then": options.then,
        "secure": options.secure,
        "threshold": options.threshold,
    }
    halves = {"coding": options.coding, "labels": options.labels, "mode": options.split_mode}
    request["split"] = {name: word for name, word in halves.items() if word is not None}
    found = ask(options, request)
    if options.wait:
        found = _wait(options, found)
    say(options, found, show_rounds.round_text(found))
    if options.wait and found["state"] == "failed":
        raise HubError(f"expected round {found['round']} to complete, it failed: {found['sentence']}")
    return 0


def _wait(options: argparse.Namespace, found: Row) -> Row:
    title, total = f"round {found['round']} ({found['kind']})", len(found["per_device"])
    request = {"request": "show", "round": found["round"]}
    return wait(options, found, request, title, total, "answered", lambda now: not now["open"])


def _round_show(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "show", "round": options.number})
    return say(options, found, show_rounds.round_text(found))


def _round_stop(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "stop", "round": options.number})
    return say(options, found, show_rounds.round_text(found))


def _round_list(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "list"})
    return say(options, found, show_rounds.rounds_text(found["rounds"]))
