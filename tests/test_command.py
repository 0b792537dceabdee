"""The command itself: what it answers before any room is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgequilt
from tests.conftest import ROOT


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "edgequilt", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_has_a_line_for_every_verb() -> None:
    """`--help` ends with 0 and names every verb beside its one line."""
    done = command("--help")

    assert done.returncode == 0
    for name, verb in edgequilt.VERBS.items():
        assert f"{name} " in done.stdout
        assert verb.help in done.stdout


def test_version() -> None:
    """`--version` says the name and the version, and ends with 0."""
    done = command("--version")

    assert (done.returncode, done.stdout) == (0, f"edgequilt {edgequilt.__version__}\n")


def test_no_verb_is_a_usage_error() -> None:
    """Without a verb the help goes to stderr and the exit code says: usage."""
    done = command()

    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: edgequilt VERB" in done.stderr


@pytest.mark.parametrize(
    ("verb", "hint"),
    [("exprot", "did you mean 'export'?"), ("zzz", "see edgequilt --help")],
    ids=["near miss", "far off"],
)
def test_an_unknown_verb_is_one_sentence(verb: str, hint: str) -> None:
    """An unknown verb says which there are, what was found and which is close, without a traceback."""
    done = command(verb)

    assert done.returncode == 2
    assert done.stderr == f"edgequilt: expected one of {', '.join(edgequilt.VERBS)}, found '{verb}'; {hint}\n"


@pytest.fixture
def verb_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `verb_under_test` whose `main` a test writes, reachable as the verb `trial`."""
    verb = edgequilt.Verb("verb_under_test:main", "export", "a trial")
    monkeypatch.setitem(edgequilt.VERBS, "trial", verb)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "verb_under_test", raising=False)
    return tmp_path / "verb_under_test.py"


def test_a_missing_library_says_what_to_install(verb_module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verb whose library is absent gives one sentence with the extra to install, and exit code 3."""
    verb_module.write_text("import no_such_library.part\n")

    assert edgequilt.main(["trial"]) == 3
    said = capsys.readouterr().err
    assert said == "edgequilt: edgequilt trial needs 'no_such_library': pip install 'edgequilt[export]'\n"


def test_a_missing_module_of_ours_is_a_bug(verb_module: Path) -> None:
    """A room's own module that is missing is not blamed on the user's installation."""
    verb_module.write_text("import console.no_such_module\n")

    with pytest.raises(ModuleNotFoundError, match=r"console\.no_such_module"):
        edgequilt.main(["trial"])


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("console.errors.DoesNotFit('too big')", 12, "edgequilt: too big\n"),
        ("KeyboardInterrupt", 130, ""),
        ("BrokenPipeError", 141, ""),
    ],
)
def test_what_a_verb_raises_becomes_an_exit_code(
    verb_module: Path, capfd: pytest.CaptureFixture[str], raised: str, code: int, said: str
) -> None:
    """Our errors become their sentence and their exit code; an interrupt is silent."""
    verb_module.write_text(f"import console.errors\ndef main(argv):\n    raise {raised}\n")

    assert edgequilt.main(["trial"]) == code
    assert capfd.readouterr().err == said


def test_a_verb_of_two_words(verb_module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before the verb that it begins with, whose own words still reach that one."""
    monkeypatch.setitem(edgequilt.VERBS, "trial two", edgequilt.Verb("verb_under_test:two", "", "another"))
    verb_module.write_text(
        "def main(argv):\n    return 7 if argv == ['one', 'two'] else 1\n"
        "def two(argv):\n    return 8 if argv == ['--x'] else 1\n"
    )

    assert edgequilt.main(["trial", "two", "--x"]) == 8
    assert edgequilt.main(["trial", "one", "two"]) == 7


def test_a_verb_gets_the_rest_of_the_line(verb_module: Path) -> None:
    """What follows the verb is handed on as it is, and the verb's result is the exit code."""
    verb_module.write_text("def main(argv):\n    return 7 if argv == ['--x', 'trial'] else 1\n")

    assert edgequilt.main(["trial", "--x", "trial"]) == 7
