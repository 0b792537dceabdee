"""`hub enroll`: tokens are made, shown and cancelled on the folder of a hub that is down."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from console.errors import EdgequiltError, HubError, UsageError
from hub.config import FILE
from hub.verbs.main import main
from wire.token import parse_token


def test_tokens_without_a_hub_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They name the address that hub.toml says, and their files are their owner's alone."""
    hub, heard = tmp_path / "hub", list[str]()

    def run(*told: str) -> str:
        assert main(["enroll", *told, "--hub", str(hub)]) == 0
        said = capsys.readouterr()
        heard.append(said.err)
        return said.out

    def found(*told: str) -> Any:
        return json.loads(run(*told, "--json"))

    main(["init", str(hub), "--fleet", "farm"])
    capsys.readouterr()
    files = found("barn-1", "barn-2", "--out", str(tmp_path / "cards"))["files"]
    assert set(files) == {"barn-1", "barn-2"}
    assert all(Path(path).stat().st_mode & 0o777 == 0o600 for path in files.values())
    token = parse_token(Path(files["barn-1"]).read_text())
    assert (token.name, token.fleet, token.addresses) == ("barn-1", "farm", ("127.0.0.1:8884",))
    assert re.search(r"barn-1 +open +[67]d +-\nbarn-2 +open +[67]d +-\n", run("--list"))
    assert run("barn-4").startswith("barn-4  eqc1.")
    assert heard.pop().startswith("only boards on this machine reach 127.0.0.1:8884; set web.listen and web.hosts")
    run("barn-4", "--cancel")
    assert run("barn-2", "--cancel") == "the token of barn-2 is worth nothing now\n"
    assert [row["name"] for row in found("--list")["tokens"]] == ["barn-1"]
    text = (hub / FILE).read_text()
    (hub / FILE).write_text(text.replace('# hosts = ["hub.example"]', 'hosts = ["hub.example", "2001:db8::1"]', 1))
    name, word = run("barn-3").split()
    assert name == "barn-3"
    assert heard.pop() == ""
    assert parse_token(word).addresses == ("hub.example:8884", "[2001:db8::1]:8884")


WRONG: list[tuple[list[str], type[EdgequiltError], str]] = [
    (["barn-2", "--cancel"], HubError, "expected names with a claim token, found barn-2 without"),
    (["Barn"], UsageError, "expected a device name of small letters"),
    (["barn-3", "--expires", "soon"], UsageError, "expected a length of time like 30s, 10m, 12h or 7d, found 'soon'"),
    (["barn-3", "--expires", "10s"], UsageError, "expected tokens that hold 1m to 366d, found 10 s"),
    ([], UsageError, "expected at least one NAME, found none"),
    (["a", "b", "--key", "x.pub"], UsageError, "expected one NAME with --key, found 2"),
    (["a", "--request", "x.csr"], UsageError, "expected --key with --request, found none"),
]


@pytest.mark.parametrize(("told", "kind", "words"), WRONG, ids=[row[2][:40] for row in WRONG])
def test_what_cannot_be_done_is_said(tmp_path: Path, told: list[str], kind: type[EdgequiltError], words: str) -> None:
    """A wrong command line is a sentence, and no token is made."""
    hub = tmp_path / "hub"
    main(["init", str(hub)])
    with pytest.raises(kind, match=re.escape(words)):
        main(["enroll", *told, "--hub", str(hub)])


def test_there_are_no_tokens_without_https(tmp_path: Path) -> None:
    """A hub that serves nothing, or whose port is not known yet, cannot say where boards should go."""
    hub = tmp_path / "hub"
    main(["init", str(hub)])
    text = (hub / FILE).read_text()
    for listen, words in {"": "boards claim over HTTPS; set it", "127.0.0.1:0": "start it first"}.items():
        (hub / FILE).write_text(text.replace("127.0.0.1:8884", listen))
        with pytest.raises(UsageError, match=words):
            main(["enroll", "barn-1", "--hub", str(hub)])
