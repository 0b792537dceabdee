"""Completion scripts, tried in a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import edgequilt
from console.arguments import Arguments, parser_of
from console.completion import SHELLS, script
from console.errors import MissingDependency, UsageError

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
_shtab_edgequilt edgequilt "${COMP_WORDS[$COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


def outer(argv: list[str]) -> int:
    """A verb with a verb below it."""
    parser = Arguments(prog="edgequilt outer")
    below = parser.add_subparsers(required=True)
    inner = below.add_parser("inner", help="what is inside")
    inner.add_argument("--colour", choices=("red", "green"))
    inner.add_argument("file", type=Path)
    parser.parse_args(argv)
    raise AssertionError("a verb whose parser is asked for must not run")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, of two verbs of which one cannot be imported."""
    path = tmp_path_factory.mktemp("completion") / "edgequilt.bash"
    path.write_text(script("bash", "edgequilt", {"outer": ("what is there", outer), "absent": ("what is not", None)}))
    return path


def completed(path: Path, *words: str) -> list[str]:
    """What a shell offers for the last word."""
    done = subprocess.run(["bash", "-c", ASK, "bash", str(path), *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("edgequilt", "ou"), ["outer"]),
        (("edgequilt", "ab"), ["absent"]),
        (("edgequilt", "outer", "in"), ["inner"]),
        (("edgequilt", "outer", "inner", "--co"), ["--colour"]),
        (("edgequilt", "outer", "inner", "--colour", "g"), ["green"]),
    ],
)
def test_bash_completes_verbs_options_and_choices(bash: Path, words: tuple[str, ...], offered: list[str]) -> None:
    """A shell offers what the parsers know, below verbs too, and by name where a verb's libraries are missing."""
    assert completed(bash, *words) == offered


def test_bash_completes_files_where_a_path_is_expected(bash: Path, tmp_path: Path) -> None:
    """An argument that is a path is completed with the files that are there."""
    (tmp_path / "weights.onnx").touch()

    assert completed(bash, "edgequilt", "outer", "inner", f"{tmp_path}/wei") == [f"{tmp_path}/weights.onnx"]


@pytest.mark.parametrize("name", edgequilt.VERBS)
def test_every_verb_gives_up_its_parser(name: str) -> None:
    """No verb does anything before its line is parsed, so each can be completed."""
    try:
        verb = edgequilt.resolve(name)
    except ModuleNotFoundError as error:
        absent = edgequilt.missing(name, error)
        if not isinstance(absent, MissingDependency):
            raise
        pytest.skip(str(absent))

    assert parser_of(verb) is not None


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_every_shell(shell: str) -> None:
    """Every shell gets a script that names the verbs and that the shell itself can read, where it is installed."""
    text = script(shell, "edgequilt", {"outer": ("what is there", outer)})

    assert "outer" in text
    if shell == "bash" or shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_an_unknown_shell_is_a_usage_error() -> None:
    """A shell without a script is named, with those that have one."""
    with pytest.raises(UsageError, match="bash"):
        edgequilt.completion(["powershell"])
