"""The launcher as systemd runs it: real starts of small releases that say who they are, and end as they please."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.slots import launch

OLD, NEW = "0.1.0+aaaaaaaa", "0.2.0+bbbbbbbb"
SAYS = "import os, sys\nprint({name!r}, *sys.argv[1:])\n{more}"


def make_release(home: Path, name: str, more: str = "") -> None:
    """A release whose command says its name, then does something."""
    folder = home / "releases" / name
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "edgequilt.py").write_text(SAYS.format(name=name, more=more))
    (folder / "release.json").write_text("{}")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two releases, the newer one on trial."""
    make_release(tmp_path, OLD)
    make_release(tmp_path, NEW)
    launch.switch(tmp_path, NEW)
    launch.write(tmp_path / launch.TRIAL, {"release": NEW, "before": OLD, "starts": 0})
    return tmp_path


def start(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One start."""
    return subprocess.run(
        [sys.executable, launch.__file__, *arguments],
        env={"EDGEQUILT_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def started(home: Path) -> str:
    """Which release a start starts."""
    return start(home).stdout.strip()


def test_three_unhealthy_starts_lead_back(home: Path) -> None:
    """The fourth start is that of the release before, and so is every later one; it is written down."""
    assert [started(home) for _ in range(6)] == [NEW, NEW, NEW, OLD, OLD, OLD]
    assert (home / "current").readlink() == Path("releases", OLD)
    assert not (home / launch.TRIAL).exists()
    assert json.loads((home / launch.GAVE_UP).read_text()) == {"release": NEW, "starts": 3}


def test_a_healthy_release_stays(home: Path) -> None:
    """Once the trial is ended, no number of starts leads back."""
    started(home)
    launch.remove(home)
    assert {started(home) for _ in range(5)} == {NEW}


def test_the_agent_gets_the_line_and_its_home(home: Path) -> None:
    """Arguments are handed on, the exit code comes back, HOME is known to the agent."""
    folder = home / "releases" / NEW / "lib"
    (folder / "edgequilt.py").write_text(
        "import os, sys\nprint(os.environ['EDGEQUILT_HOME'])\nsys.exit(len(sys.argv))\n"
    )
    done = start(home, "agent", "run")
    assert (done.stdout.strip(), done.returncode) == (str(home), 3)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"release": 1}', '{"release": "a", "before": "b", "starts": "x"}'])
def test_half_a_trial_is_none(home: Path, content: str) -> None:
    """A file that was torn, or is something else, keeps nothing from starting."""
    (home / launch.TRIAL).write_text(content)
    assert started(home) == NEW


@pytest.mark.parametrize("target", ["releases/0.3.0+cccccccc", "releases/..", "/etc", "elsewhere/x", None])
def test_a_link_that_leads_nowhere(home: Path, target: str | None) -> None:
    """Then the newest whole release starts; a folder without release.json is none."""
    (home / "current").unlink()
    if target is not None:
        (home / "current").symlink_to(target)
    (home / "releases" / "0.3.0+half" / "lib").mkdir(parents=True)
    assert started(home) in (OLD, NEW)


def test_without_any_release_it_says_what_to_do(tmp_path: Path) -> None:
    """A sentence, exit code 1, no traceback."""
    done = start(tmp_path)
    assert done.returncode == 1
    assert "expected a release of the agent below" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_release_before_is_gone(home: Path) -> None:
    """What cannot go back stays, and its trial is over."""
    (home / "releases" / OLD / "release.json").unlink()
    assert [started(home) for _ in range(5)] == [NEW] * 5
    assert not (home / launch.TRIAL).exists()


def test_another_switch_ends_the_trial(home: Path) -> None:
    """Whoever points the link elsewhere by hand has decided."""
    launch.switch(home, OLD)
    assert [started(home) for _ in range(5)] == [OLD] * 5


def test_a_full_disk_starts_what_there_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that cannot be counted is a start all the same."""
    (home / f"{launch.TRIAL}.new").mkdir()  # nothing can be written there
    done = start(home)
    assert done.stdout.strip() == NEW
    assert "cannot be counted" in done.stderr


def test_it_imports_nothing_of_ours() -> None:
    """Only Python's own: it must work when no release does."""
    lines = Path(launch.__file__).read_text().splitlines()
    found = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert found <= set(sys.stdlib_module_names)


def test_a_command_of_a_person_is_no_start(home: Path) -> None:
    """`edgequilt agent status` runs the current release, and counts for nothing in its trial."""
    for _ in range(5):
        assert NEW in start(home, "agent", "status").stdout
    assert json.loads((home / launch.TRIAL).read_text())["starts"] == 0
