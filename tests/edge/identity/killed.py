"""Kill a claim before every single step that it takes, and begin it anew.

`python -m tests.edge.identity.killed TOKENS FOLDER`: with one token after the other, a child is ended (os._exit, no
clean-up) before its n-th file operation or byte that it sends; a second child then claims in the same folder. A line
of JSON for each says how both ended and what is there. The last is not killed at all. Where TOKENS is the folder of a
board, the same is done with renewals of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from edge.identity.claim import claim
from edge.identity.configuration import Wishes
from edge.identity.record import read_identity
from edge.identity.renew import renew
from wire.keys import new_key
from wire.tls import client_context, request_for
from wire.token import parse_token

WATCHED = ("open", "os.rename", "os.remove", "os.mkdir")
SENT = ("socket.connect", "http.client.send")


def changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an operation leaves something else on the disk."""
    return event != "open" or bool(int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def child(run: Callable[[], Any]) -> int:
    """Run in a child; returns how that ended."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  # the parent reports it
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(deed: Callable[[], Any], folder: Path, steps: int) -> None:
    """Do it, up to a step."""
    left = [steps]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in SENT or (event in WATCHED and str(folder) in str(arguments[0]) and changes(event, arguments)):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

    sys.addaudithook(watch)
    deed()


def renewals(folder: Path) -> None:
    """The same with renewals of a board that is there; what it shows must be a pair at every instant."""
    for steps in count():
        ended = child(partial(killed, partial(renew, folder), folder, steps))
        client_context(folder / "ca.pem", folder / "tls.pem")  # raises unless key and certificate are one pair
        again = child(partial(renew, folder)) if ended else 0
        files = sorted(path.name for path in folder.iterdir())
        print(json.dumps({"killed": ended, "again": again, "files": files}), flush=True)
        if ended == 0:
            return


def main(tokens: Path, root: Path) -> None:
    """Kill at step 0, 1, 2, ... until a claim ends by itself."""
    request_for("warm", root / "warm.key")  # what is loaded once is loaded before the forks
    new_key("device", "warm")
    import http.client

    assert http.client
    if tokens.is_dir():
        renewals(tokens)
        return
    for steps, word in enumerate(tokens.read_text().split()):
        token, folder = parse_token(word), root / str(steps)
        deed = partial(claim, token, folder, Wishes())
        ended = child(partial(killed, deed, folder, steps))
        was = read_identity(folder) is not None
        again = child(deed)
        name = token.name
        files = sorted(path.name.replace(name, "NAME") for path in folder.rglob("*") if path.is_file())
        key = (folder / f"{name}.pub").read_text().split()[2]
        found = {"name": name, "killed": ended, "whole": was, "again": again, "files": files, "key": key}
        print(json.dumps(found), flush=True)
        if ended == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
