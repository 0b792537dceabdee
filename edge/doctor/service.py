"""Checks of the running program: systemd's unit, how the agent ended last, what it says of its hub and its bundle."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any

from edge.doctor.board import Board
from edge.doctor.finding import Finding, ok, problem, unknown, warning
from edge.ended import Ended, read_end
from edge.hearing import TWINS
from edge.shelf import Shelf
from edge.slots.record import Record

OFTEN = 3  # starts that systemd had to make
SHOWN = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainStatus")
ASK_S = 20.0


def unit(board: Board) -> Finding:
    """Whether systemd runs the agent, and how often it had to start it again."""
    text = said("systemctl", "show", board.unit, *(f"--property={name}" for name in SHOWN))
    if text is None:
        return unknown("there is no systemd here")
    shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    barked = said("journalctl", "-u", board.unit, "--since=-1day", "-o", "cat", "-q", "--grep=Watchdog timeout")
    return judge_unit(board.unit, shown, len((barked or "").splitlines()))


def judge_unit(name: str, shown: Mapping[str, str], barked: int) -> Finding:
    """By what `systemctl show` says, and how often the watchdog ended it within a day."""
    state, restarts = shown.get("ActiveState", ""), int(shown.get("NRestarts") or 0)
    look = f"see why: edgequilt agent logs, or systemctl status {name}"
    if shown.get("LoadState") != "loaded":
        return unknown(f"systemd knows no {name}")
    if barked or shown.get("Result") == "watchdog":
        return problem(
            f"the watchdog ended {name} {max(1, barked)} times within a day: it hung", f"{look}; and report it"
        )
    if state in ("inactive", "deactivating"):
        return problem(f"{name} does not run", f"systemctl enable --now {name}")
    if state == "failed" or shown.get("SubState") == "auto-restart":
        return problem(f"{name} ends with exit code {shown.get('ExecMainStatus', '?')} again and again", look)
    if restarts >= OFTEN:
        return warning(f"{name} runs, after {restarts} starts that failed", look)
    return ok(f"{name} runs")


def agent(board: Board) -> Finding:
    """Whether an agent has the state folder, and what it says."""
    return judge_agent(board.running, read_end(board.folder), board.status)


def judge_agent(running: bool | None, ended: Ended | None, status: Mapping[str, Any]) -> Finding:
    """By its lock, its last word and its status."""
    if running is None:
        return unknown("this user may not look into the state folder; run this as root")
    if not running and ended is not None:
        return problem(
            f"the agent ended {ended.times} times: {ended.sentence}", "mend what it says; it goes on by itself"
        )
    if not running:
        return problem("no agent runs on the state folder", "systemctl start edgequilt-agent, or edgequilt agent run")
    if not status.get("connected"):
        return warning("the agent runs, and is not connected", "see the checks of the network")
    if status.get("trouble") and int(status.get("replaced") or 0) < TWINS:
        return problem(str(status["trouble"]), "see the hub: edgequilt hub status")
    return ok("the agent runs and is connected")


def twins(board: Board) -> Finding:
    """Whether another agent uses this one's name."""
    return judge_twins(board.status)


def judge_twins(status: Mapping[str, Any]) -> Finding:
    """By how often the broker gave our place to another."""
    if not status:
        return unknown("no agent ran here yet")
    times = int(status.get("replaced") or 0)
    if times >= TWINS:
        return problem(
            f"another agent with the name {status.get('device')} took our place {times} times",
            "a card was copied: end one of the two boards, enroll another name and claim it there",
        )
    if status.get("unsteady"):
        return problem(
            "the connection comes and goes: the network is weak, or another board has this one's name",
            "see on the hub whether another address says hello with it (edgequilt hub status, the broker's log); then "
            "enroll another name for one of the two, else mend the network",
        )
    return ok("nobody else uses this name, as far as the broker says")


def bundle(board: Board) -> Finding:
    """Whether the bundle that the hub named could be taken."""
    kept = Shelf(board.state).kept
    return judge_bundle(kept.seen is not None and kept.seen.sequence == kept.failed_sequence, kept.failed, board.status)


def judge_bundle(gave_up: bool, reason: str, status: Mapping[str, Any]) -> Finding:
    """By the record of bundles and by the status."""
    if gave_up:
        return problem(
            f"the bundle that the hub named was not taken: {reason}",
            "mend it and assign it again: edgequilt hub bundle assign",
        )
    if status.get("bundle_coming"):
        coming = status["bundle_coming"]
        return ok(f"a bundle is on its way: {coming.get('bytes', 0)} of {coming.get('of', 0)} bytes")
    if status and not status.get("bundle"):
        return warning("there is no bundle yet", "on the hub: edgequilt hub bundle assign DEVICE BUNDLE")
    return ok("the bundle is here") if status else unknown("no agent ran here yet")


def release(board: Board) -> Finding:
    """Whether the release of the agent that the hub named could be taken."""
    kept = Record(board.state).kept
    gave_up = kept.seen is not None and kept.seen.sequence == kept.failed_sequence
    return judge_release(gave_up, kept.failed, kept.state, kept.version)


def judge_release(gave_up: bool, reason: str, state: str, version: str) -> Finding:
    """By the record of releases."""
    if gave_up:
        return problem(
            f"the release of the agent that the hub named was not taken: {reason}",
            "mend it and name it again: edgequilt hub release assign",
        )
    if state:
        return ok(f"a release of the agent is on its way{f' ({version})' if version else ''}: {state}")
    return ok("the hub names no other release of the agent")


def said(*command: str) -> str | None:
    """What a program of the system prints; None where there is none, or it takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout
