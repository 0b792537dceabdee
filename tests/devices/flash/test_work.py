"""Folders of runs: for one user alone, kept while a run lives, and swept when it was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from console.errors import StorageError
from devices.flash.work import PREFIX, sweep, work_folder
from tests.conftest import ROOT

RUN = (
    "import sys, pathlib, devices.flash.work as work\n"
    "with work.work_folder(pathlib.Path(sys.argv[1])) as folder:\n"
    "    (folder / 'inner').mkdir(); (folder / 'inner' / 'token').write_text('secret')\n"
    "    print(folder, flush=True); sys.stdin.read()\n"
)


def another(where: Path) -> tuple[subprocess.Popen[str], Path]:
    """A run that works there, and its folder."""
    words = [sys.executable, "-c", RUN, str(where)]
    run = subprocess.Popen(words, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None
    return run, Path(run.stdout.readline().strip())


def test_it_goes_with_its_run(tmp_path: Path) -> None:
    """Only its user looks into it, and nothing of it is left, whatever happened within."""

    def interrupted() -> None:
        with work_folder(tmp_path) as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "token").write_text("secret")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_was_killed_is_swept(tmp_path: Path) -> None:
    """The folder of a run that lives stays; once it is killed, the next run removes it."""
    run, folder = another(tmp_path)
    try:
        with work_folder(tmp_path):
            assert (folder / "inner" / "token").read_text() == "secret"
    finally:
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert (folder / "inner" / "token").exists()
    with work_folder(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]


def test_only_such_folders_are_swept(tmp_path: Path) -> None:
    """No link to another folder, no file, no other name; one without a lock was killed as it began."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo").write_text("dear")
    (tmp_path / f"{PREFIX}link").symlink_to(precious)
    (tmp_path / f"{PREFIX}file").write_text("a file")
    (tmp_path / f"{PREFIX}bare").mkdir()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}file", f"{PREFIX}link", "precious"]
    assert (precious / "photo").read_text() == "dear"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_folders_of_others_are_theirs(tmp_path: Path) -> None:
    """Whoever may write there puts a folder of such a name there; it stays."""
    theirs = tmp_path / f"{PREFIX}theirs"
    theirs.mkdir()
    os.chown(theirs, 1234, 1234)
    sweep(tmp_path)
    assert theirs.exists()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """One that is not there, and one that debugfs would read as an offset: a sentence each."""
    with pytest.raises(StorageError, match="expected to unpack in .*--work DIR"), work_folder(tmp_path / "none"):
        pass
    (tmp_path / "what?").mkdir()
    with pytest.raises(StorageError, match="without '\\?'"), work_folder(tmp_path / "what?"):
        pass
