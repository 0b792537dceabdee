"""`edgequilt hub`: make a hub, run it, tell it who belongs to it, open rounds, look at them."""

from __future__ import annotations

from console.arguments import Arguments
from hub.verbs import (
    adapter,
    backup,
    brokers,
    bundles,
    enroll,
    fixes,
    groups,
    importance,
    keeping,
    methods,
    programs,
    rotating,
    rounds,
    setup,
    shutting,
    versions,
    watch,
    workers,
)

NOUNS = (
    setup,
    enroll,
    shutting,
    rotating,
    bundles,
    programs,
    groups,
    rounds,
    methods,
    versions,
    fixes,
    importance,
    adapter,
    backup,
    keeping,
    watch,
    brokers,
    workers,
)


def main(argv: list[str]) -> int:
    """`edgequilt hub VERB ...`."""
    parser = Arguments(prog="edgequilt hub", description="Run the hub of a fleet.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for noun in NOUNS:
        noun.parse(verbs)
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code
