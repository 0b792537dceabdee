"""`edgequilt agent status | doctor | logs | prove`: the verbs that look at an agent which runs, or should."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devices.payload.places import CONFIG


def add_board_verbs(verbs: Any) -> None:
    """Add them to those of `agent`."""
    status = verbs.add_parser("status", help="how the agent of this board is; the exit code says whether it is well")
    doctor = verbs.add_parser("doctor", help="find what is wrong with this board, and how to mend it")
    logs = verbs.add_parser("logs", help="what the agent said, from the journal or its own file")
    prove = verbs.add_parser("prove", help="see that this release runs here, and that the bundle in use answers right")
    for verb in (status, doctor, logs, prove):
        verb.add_argument("--config", type=Path, default=Path(CONFIG), help=f"agent.toml; by default {CONFIG}")
    for verb in (status, doctor):
        verb.add_argument("--json", action="store_true")
        verb.add_argument("--root", type=Path, default=Path("/"), help="where proc and sys are")
    doctor.add_argument("--all", action="store_true", help="show what could not be looked at, too")
    logs.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    logs.add_argument("--since", metavar="TIME", help="30min, 2h, 1d, or 2026-11-26T18:00")
    logs.add_argument("--lines", type=int, metavar="N", help="the last N only")


def _status(given: argparse.Namespace) -> int:
    from edge.cli_status import status

    return status(given)


def _doctor(given: argparse.Namespace) -> int:
    from edge.cli_doctor import doctor

    return doctor(given)


def _logs(given: argparse.Namespace) -> int:
    from edge.cli_logs import logs

    return logs(given)


def _prove(given: argparse.Namespace) -> int:
    from edge.slots.prove import prove

    found = prove(given.config)
    print("it runs here; no bundle yet" if found is None else f"it runs here; off the golden output by {found:.1e}")
    return 0


DEEDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": _status,
    "doctor": _doctor,
    "logs": _logs,
    "prove": _prove,
}
