"""`edgequilt hub revoke | quarantine`: shut a device out, or leave it out of rounds."""

from __future__ import annotations

import argparse
from typing import Any

from console.errors import UsageError
from hub.verbs.common import add_verb, ask, say


def parse(verbs: Any) -> None:
    """Their options."""
    made = add_verb(verbs, "revoke", _revoke, "believe and serve a device no more, from now on", of_model=False)
    made.add_argument("device")
    made.add_argument("--undo", action="store_true", help="its name may be enrolled anew, with another key")
    made = add_verb(verbs, "quarantine", _quarantine, "leave a device out of rounds", of_model=False)
    made.add_argument("device")
    made.add_argument("--reason", default="", help="why; the device is told with every refusal")
    made.add_argument("--lift", action="store_true", help="take it in again")


def _revoke(options: argparse.Namespace) -> int:
    found = ask(options, {"request": "revoke", "device": options.device, "undo": options.undo})
    again = f"{options.device} may be enrolled anew: edgequilt hub enroll {options.device} --replace"
    return say(options, found, f"{options.device} is revoked" if found["revoked"] else again)


def _quarantine(options: argparse.Namespace) -> int:
    if options.lift and options.reason:
        raise UsageError("expected --reason or --lift, found both; choose one")
    reason = "" if options.lift else options.reason or "by hand"
    found = ask(options, {"request": "quarantine", "device": options.device, "reason": reason})
    text = f"is in quarantine: {reason}" if found["quarantine"] else "takes part again"
    return say(options, found, f"{options.device} {text}")
