"""Checks of what a person set up: the configuration, the claim, who may read the keys."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from console.errors import EdgequiltError
from edge.config import Config
from edge.doctor.board import Board
from edge.doctor.finding import Finding, ok, problem, unknown, warning
from edge.ended import Ended, read_end
from edge.identity.folder import NEXT, TLS
from wire.token import Token

ENROLL = "on the hub: edgequilt hub enroll NAME; then here: edgequilt agent claim TOKEN --dir {folder}"


def configuration(board: Board) -> Finding:
    """Whether agent.toml can be used."""
    if not board.path.exists():
        return problem(
            f"there is no {board.path}",
            "name it with --config, install this board (edgequilt install), or claim it: "
            + ENROLL.format(folder=board.folder),
        )
    if isinstance(board.config, Config):
        return ok(f"{board.path}: {board.config.name} of {board.config.fleet}")
    if board.identity is None and "claim" in board.tables:
        return ok(f"{board.path} is to be made whole by a claim")
    return problem(str(board.config), f"mend {board.path}")


def claimed(board: Board) -> Finding:
    """Whether the board is a device of a fleet, or may become one."""
    return judge_claim(
        has_identity=board.identity is not None,
        by_hand=isinstance(board.config, Config),
        token=board.token,
        ended=read_end(board.folder),
        folder=board.folder,
    )


def judge_claim(
    *, has_identity: bool, by_hand: bool, token: Token | EdgequiltError | None, ended: Ended | None, folder: Path
) -> Finding:
    """By what is in the folder and how the last start ended."""
    again = ENROLL.format(folder=folder)
    if has_identity:
        return ok("claimed")
    if isinstance(token, EdgequiltError):
        return problem(f"the claim token cannot be read: {token}", again)
    if token is None:
        if by_hand:
            return ok("enrolled by hand: its certificate is renewed by hand, too")
        return problem("this board was never claimed, and no token is here", again)
    if ended is not None and ended.kind in ("HubError", "Refused", "SignatureError"):
        return problem(f"the hub refuses the claim token ({ended.times} times so far): {ended.sentence}", again)
    return warning(
        f"not claimed yet: the token for {token.name} of {token.fleet} waits for its hub",
        "start the agent where the hub can be reached; the token is used by itself",
    )


def keys(board: Board) -> Finding:
    """Whether keys are there, and nobody else's to read."""
    config = board.config
    if not isinstance(config, Config):
        return unknown("no keys yet")
    files = [config.device_key, board.folder / TLS, board.folder / NEXT]
    files += [Path(config.broker.key)] if config.broker.key else []
    try:
        return judge_keys((path, path.stat().st_mode) for path in dict.fromkeys(files) if path.exists())
    except OSError as error:
        return unknown(f"the keys cannot be looked at ({error.strerror}); run this as root")


def judge_keys(modes: Iterable[tuple[Path, int]]) -> Finding:
    """Only the owner may read them."""
    known = list(modes)
    loose = [path for path, mode in known if mode & (stat.S_IRWXG | stat.S_IRWXO)]
    if loose:
        named = " ".join(map(str, loose))
        return problem(f"other users of this board can read {named}", f"chmod 600 {named}; then revoke and claim anew")
    return ok(f"{len(known)} keys, readable by their owner alone")
