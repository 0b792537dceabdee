"""`edgequilt plan MODEL --fleet FILE.toml ...`: who holds what of a model, of which ranks, in which time; and why."""

from __future__ import annotations

import json

from devices.split.fleet_plan import plan_bytes
from export.planning.options import asked_by, parser
from export.planning.words import page, words
from wire.files import write_atomic
from wire.record import plain


def plan(argv: list[str]) -> int:
    """Print a plan, and write what is asked for; returns the exit code.

    Raises:
        UsageError: options that do not go together, a board that is not there.
        DoesNotFit: the fleet cannot hold the model, or not keep the deadline.
        UnsupportedModel, BadData, StorageError: the model, or a file.
    """
    options = parser().parse_args(argv)
    asked = asked_by(options)
    # everything above is checked before torch is loaded
    from export.planning.planned import planned

    made, stays = planned(options, asked)
    if options.out is not None:
        write_atomic(options.out, plan_bytes(made))
    if options.html is not None:
        write_atomic(options.html, page(made).encode())
    print(json.dumps(plain(made), indent=1) if options.json else "\n\n".join(filter(None, [stays, words(made)])))
    return 0
