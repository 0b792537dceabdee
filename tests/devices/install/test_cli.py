"""`edgequilt install` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("asyncssh")
pytest.importorskip("packaging")

from console.errors import TransportError, UsageError
from devices.install.cli import main
from devices.install.ssh import host_named
from devices.install.stages import STAGES
from tests.devices.install.server import Board
from tests.devices.install.test_install import TOKEN, here, wheels

__all__ = ["here", "wheels"]  # fixtures


def line(board: Board, house: Path, *more: str) -> list[str]:
    """The arguments for a board of the tests."""
    known = ["--known-hosts", str(board.folder / "known_hosts"), "--identity", str(board.folder / "user")]
    where = [f"{board.host().user}@127.0.0.1", "--port", str(board.port), "--prefix", str(board.root)]
    return [*where, *known, "--wheelhouse", str(house), *more]


def test_the_whole_verb(
    here: Board, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of what would be done, then JSON of a board on which nothing is left to do, then its end."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "token").write_text(TOKEN.text + "\n")
    claim = ["--claim-file", str(tmp_path / "token")]

    assert main(line(here, wheels, *claim, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "release   to do  send" in said
    assert said.strip().endswith("nothing was done (--dry-run)")
    assert main(line(here, wheels, *claim, "--json")) == 0
    told = capsys.readouterr()
    assert told.err == ""
    first = json.loads(told.out)
    assert (first["changed"], first["status"]) == (True, "waits for its hub")
    assert main(line(here, wheels, *claim)) == 0
    assert capsys.readouterr().out.strip().endswith(f"nothing to do: release {first['release']} runs")
    assert main(line(here, wheels, "--uninstall")) == 0
    assert "removed /etc/systemd/system/edgequilt-agent.service" in capsys.readouterr().out


def test_every_step_is_told_in_its_order(
    here: Board, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of how many, beside the board's name; where nothing is to be done nothing more is told than that."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "token").write_text(TOKEN.text + "\n")
    words = line(here, wheels, "--claim-file", str(tmp_path / "token"))
    every = [f"{words[0]}: {number} of 5, {name} ..." for number, name in enumerate(STAGES, 1)]
    assert main(words) == 0
    assert [said for said in capsys.readouterr().err.splitlines() if said.endswith(" ...")] == every
    assert main(words) == 0
    assert capsys.readouterr().err.splitlines() == every[:2]


def test_of_several_boards_one_hinders_no_other(
    here: Board, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each board has its own token; the one that is not reached is told, and decides the exit code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = line(here, wheels, "--dry-run", "--claims", str(tmp_path / "claims"))
    (tmp_path / "claims").write_text(f"# boards\n{arguments[0]} {TOKEN.text}\nnobody@127.0.0.1  eqc1.other\n")

    assert main(["nobody@127.0.0.1", *arguments]) == TransportError.exit_code
    seen = capsys.readouterr()
    assert seen.err.startswith("edgequilt: nobody@127.0.0.1: expected")
    assert "nothing was done (--dry-run)" in seen.out


CLAIMS = {
    "one token twice": ("a@b T\nc@d T\n", "expected a token of its own for each board"),
    "a board without": ("a@b T\n", "expected a line for each board in .*, found none for c@d"),
    "three words": ("a@b T x\n", "expected USER@HOST and TOKEN in line 1"),
    "one host twice": ("a@b T\na@b U\n", "in line 2 of .*, each host once"),
}


@pytest.mark.parametrize(("text", "said"), CLAIMS.values(), ids=CLAIMS)
def test_a_file_of_claims_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """Before any board is reached, and without a token in the sentence."""
    (tmp_path / "claims").write_text(text.replace("T", TOKEN.text))
    with pytest.raises(UsageError, match=said) as seen:
        main(["a@b", "c@d", "--claims", str(tmp_path / "claims")])
    assert TOKEN.text not in str(seen.value)


WRONG = {
    "one token for two": (["a@b", "c@d", "--claim", "T"], "expected --claims with a line for each board"),
    "keep what?": (["a@b", "--claim", "T", "--keep-data"], "expected --keep-data beside --uninstall only"),
    "no host": (["a b@c", "--claim", "T"], "expected USER@HOST, found 'a b@c'"),
    "an option as host": (["--", "-oProxyCommand=x", "--claim"], "expected USER@HOST"),
    "no port": (["a@b", "--port", "0"], "expected --port between 1 and 65535, found 0"),
    "no such board": (["a@b", "--device", "raspberry-pi-9"], "expected the name of a board"),
}


@pytest.mark.parametrize(("argv", "said"), WRONG.values(), ids=WRONG)
def test_what_is_typed_wrong_is_said(argv: list[str], said: str) -> None:
    """Before anything is connected."""
    with pytest.raises(UsageError, match=said):
        main(argv)


def test_hosts_as_people_write_them() -> None:
    """An address of IPv6 may stand in brackets; without a user it is the one of this machine."""
    assert host_named("pi@[fd00::2]") == ("pi", "fd00::2")
    assert host_named("barn-1.local")[1] == "barn-1.local"
