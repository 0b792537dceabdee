"""Progress in logs: sparse lines that say how much is done and how long the rest takes."""

from __future__ import annotations

import pytest

from console import progress as console


def test_lines_say_how_long_it_still_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """At a steady pace the rest takes as long as it does; a line comes at most every ten seconds."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with console.progress("sending", 40 << 20, unit="bytes") as bar:
        for _ in range(8):
            clock[0] += 5.0
            bar.advance(5 << 20)
    assert capsys.readouterr().err.splitlines() == [
        "sending ...",
        "sending ... 10.0 MiB of 40.0 MiB, 30 s left",
        "sending ... 20.0 MiB of 40.0 MiB, 20 s left",
        "sending ... 30.0 MiB of 40.0 MiB, 10 s left",
        "sending ... 40.0 MiB of 40.0 MiB, 0 s left",
    ]


def test_work_of_unknown_size_says_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No time is made up; nothing at all with `quiet`."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    for quiet in (False, True):
        with console.progress("looking", quiet=quiet) as bar:
            clock[0] += 11.0
            bar.advance(3)
    assert capsys.readouterr().err.splitlines() == ["looking ...", "looking ... 3 steps"]
