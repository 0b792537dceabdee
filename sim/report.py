"""The result of a run as a page, as JSON, and in words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from console import report
from console.table import MIB, percent
from sim.result import Result, board_table, interval, model_table
from wire.files import write_atomic

TITLES = {
    "text": "One text model, three unequal boards",
    "cameras": "One vision model, three unlike cameras",
}


def write_result(folder: Path, result: Result, pictures: list[tuple[str, bytes]], notes: list[str]) -> None:
    """Write `result.json` and `report.html`."""
    plain = dataclasses.asdict(result)
    write_atomic(folder / "result.json", json.dumps(plain, indent=1).encode() + b"\n")
    write_atomic(folder / "report.html", page(result, pictures, notes).encode())


def page(result: Result, pictures: list[tuple[str, bytes]], notes: list[str]) -> str:
    """The report as one HTML page."""
    lead = (
        f"{result.model}: {len(result.boards)} boards, {result.test_rows} test rows, seed {result.seed}, "
        f"{sum(result.seconds.values()):.0f} s in all. Boards are simulated by processes on one machine: memory was "
        f"measured, seconds are this machine's."
    )
    sections = [
        report.section("Who knows what", report.table(*model_table(result), strong=_joint_rows(result)), _words(notes)),
        report.section("Accuracy per round", _rounds(result), report.text(f"Gate: {result.gate}.")),
        report.section("Boards", report.table(*board_table(result))),
        report.section("Memory: measured peak of each worker against the board's budget", _memory(result)),
    ]
    if pictures:
        sections.append(report.section("What the cameras see", report.pictures(pictures)))
    checks = [
        (f"{c.words} ({c.figures})" if c.figures else c.words, c.held) for c in (*result.invariants, *result.learning)
    ]
    sections.append(report.section("Checked", report.checks(checks)))
    seconds = [[name, f"{spent:.1f}"] for name, spent in result.seconds.items()]
    sections.append(report.section("Where the time went", report.table(["step", "seconds"], seconds)))
    return report.page(TITLES.get(result.scenario, result.scenario), lead, sections)


def honest_words(result: Result) -> list[str]:
    """What the figures say about adapters on this task, also when it is little."""
    gain, width = result.joint_best - result.head_only, interval(result.head_only, result.test_rows)
    found = f"The joint model is {100 * gain:+.1f} points from the pooled head without adapter"
    if abs(gain) <= width:
        return [
            f"{found}, within the test set's 95 % interval of {100 * width:.1f} points: on text that a good encoder "
            f"already separates, adapters add little, and the closed-form head does the work."
            if result.scenario == "text"
            else f"{found}, within the test set's 95 % interval of {100 * width:.1f} points."
        ]
    return [f"{found}, beyond the test set's 95 % interval of {100 * width:.1f} points."]


def _joint_rows(result: Result) -> list[int]:
    _, rows = model_table(result)
    return [i for i, row in enumerate(rows) if str(row[0]).startswith("joint")]


def _words(notes: list[str]) -> str:
    return "".join(report.text(note) for note in notes)


def _rounds(result: Result) -> str:
    ticks, values = [w for w, _ in result.by_round], [a for _, a in result.by_round]
    levels = [("centralised", result.centralised), ("best board alone", result.best_alone)]
    if result.unadapted is not None:
        levels.append(("un-adapted", result.unadapted))
    return report.lines([("joint", values)], levels, ticks)


def _memory(result: Result) -> str:
    rows = [(b.name, b.peak_bytes / MIB, b.budget_bytes / MIB) for b in result.boards]
    used = ", ".join(f"{b.name} {percent(b.peak_bytes / b.budget_bytes)}" for b in result.boards)
    return report.bars(rows, "MiB") + report.text(f"Used: {used}.")
