"""The local socket: answers and errors come through it as they are, from deep folders too."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from console.errors import HubError, SignatureError, UsageError
from hub.serving.control import ControlServer, ask, is_running


def respond(request: dict[str, Any]) -> dict[str, Any]:
    """What the hub would answer."""
    if request["request"] == "fail":
        raise SignatureError("expected a signature, found none")
    if request["request"] == "break":
        raise RuntimeError("oops")
    return {"echo": request}


def test_an_answer_comes_back(tmp_path: Path) -> None:
    """A request gets its answer; the socket is its owner's only, and gone when the hub is."""
    server = ControlServer(tmp_path, respond)
    try:
        assert ask(tmp_path, {"request": "status", "text": "ü" * 5000}) == {
            "echo": {"request": "status", "text": "ü" * 5000}
        }
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        assert is_running(tmp_path)
    finally:
        server.close()

    assert not is_running(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_deep_folder_has_a_short_socket(tmp_path: Path) -> None:
    """Where the path is longer than a socket's may be, the socket lies in a private folder, removed at the end."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    server = ControlServer(deep, respond)
    try:
        assert len(str(server.path)) < 107
        assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700
        assert ask(deep, {"request": "x"}) == {"echo": {"request": "x"}}
    finally:
        server.close()
    assert not server.path.parent.exists()


def test_errors_keep_their_class_and_words(tmp_path: Path) -> None:
    """What the hub refuses is raised here with the same class and sentence; what broke says where to look."""
    server = ControlServer(tmp_path, respond)
    try:
        with pytest.raises(SignatureError, match="^expected a signature, found none$"):
            ask(tmp_path, {"request": "fail"})
        with pytest.raises(HubError, match=r"the hub could not answer: RuntimeError\('oops'\); see its log"):
            ask(tmp_path, {"request": "break"})
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(server.path))
            raw.sendall(b"not json\n")
            assert b"expected a request as a line of JSON" in raw.recv(4096)
    finally:
        server.close()


def test_no_hub_is_said(tmp_path: Path) -> None:
    """Without a hub, or after one that was killed, the sentence names the command that starts one."""
    words = "expected a running hub on .*, found none; start it with `edgequilt hub up"
    with pytest.raises(HubError, match=words):
        ask(tmp_path, {"request": "status"})

    (tmp_path / "control.path").write_text(str(tmp_path / "control.sock"))
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "control.sock"))
    left.close()  # the file stays, as after a kill
    with pytest.raises(HubError, match=words):
        ask(tmp_path, {"request": "status"})

    server = ControlServer(tmp_path, respond)
    server.close()


def test_unknown_requests_are_named() -> None:
    """A newer client's request to an older hub is refused with what this one knows."""
    from hub.requests.answer import answer

    with pytest.raises(UsageError, match="expected a request among add, enroll, .*, found 'dance'"):
        answer(None, {"request": "dance"})  # type: ignore[arg-type]  # it is refused before the hub is needed
