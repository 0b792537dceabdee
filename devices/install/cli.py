"""`edgequilt install USER@HOST`: a running board becomes an agent."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from console.arguments import Arguments
from console.errors import EdgequiltError, UsageError
from console.table import table
from console.toml import read_toml
from devices.install.conduct import Outcome, install
from devices.install.ssh import PORT, Host, host_named
from devices.install.uninstall import uninstall
from devices.install.wishes import Wishes
from devices.profile import load
from wire.files import read_bytes
from wire.token import TOKEN_LIMIT

SECRET_LIMIT = 4096


def main(argv: list[str]) -> int:
    """The verb `install`; returns the exit code.

    Raises:
        EdgequiltError: of one board; of several, each is told and the others go on.
    """
    given = _parser().parse_args(argv)
    hosts, tokens = [_host(name, given) for name in given.hosts], _tokens(given)
    wishes = _wishes(given)
    if len(hosts) == 1:
        _one(hosts[0], tokens.get(hosts[0].name), wishes, given)
        return 0
    codes = [_told(host, tokens.get(host.name), wishes, given) for host in hosts]
    return next(filter(None, codes), 0)


def _parser() -> Arguments:
    parser = Arguments("edgequilt install", description="Make a running board an agent, over SSH (docs/install.md).")
    parser.add_argument("hosts", nargs="+", metavar="USER@HOST")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--claim", metavar="TOKEN", help="of `hub enroll`; others on this machine see it while this runs")
    who.add_argument("--claim-file", type=Path, metavar="FILE", help="where the token is; - for standard input")
    who.add_argument("--claims", type=Path, metavar="FILE", help="lines of USER@HOST and TOKEN, for several boards")
    parser.add_argument("--hub", metavar="URL", help="where the board reaches the hub, if not as the token says")
    parser.add_argument("--device", metavar="PROFILE", help="the kind of board, if it does not say so itself")
    parser.add_argument("--profiles", type=Path, metavar="FOLDER", help="a folder with profiles of your own")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle to begin with")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder of samples to begin with")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="TOML with more entries for agent.toml")
    parser.add_argument("--wheelhouse", type=Path, metavar="DIR", help="take wheels from there, without the network")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--identity", type=Path, metavar="FILE", help="private key; default: ssh-agent and ~/.ssh")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="where the user's password is")
    parser.add_argument("--sudo-password-file", type=Path, metavar="FILE", help="where the password for sudo is")
    parser.add_argument("--known-hosts", type=Path, metavar="FILE", help="default: ~/.ssh/known_hosts")
    parser.add_argument("--accept-new-host-key", action="store_true", help="believe a host that is not known yet")
    parser.add_argument("--uninstall", action="store_true", help="take the agent off, with its keys and its data")
    parser.add_argument("--keep-data", action="store_true", help="with --uninstall: leave keys, settings and data")
    parser.add_argument("--dry-run", action="store_true", help="look, say what would be done, and do nothing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--prefix", default="/", help=argparse.SUPPRESS)  # a folder that stands for the board's root
    return parser


def _told(host: Host, token: str | None, wishes: Wishes, given: argparse.Namespace) -> int:
    """One of several boards: what is wrong with it hinders no other."""
    try:
        _one(host, token, wishes, given)
    except EdgequiltError as error:
        print(f"edgequilt: {host.name}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _one(host: Host, token: str | None, wishes: Wishes, given: argparse.Namespace) -> None:
    if given.uninstall:
        gone = asyncio.run(uninstall(host, wishes, keep_data=given.keep_data))
        if given.json:
            print(json.dumps({"host": host.name, "removed": gone}))
        else:
            print(f"{host.name}: " + (f"removed {', '.join(gone)}" if gone else "there was no agent"))
        return
    outcome = asyncio.run(install(host, token, wishes, dry_run=given.dry_run))
    print(json.dumps(as_json(outcome, given.dry_run)) if given.json else as_text(outcome, given.dry_run))


def as_text(outcome: Outcome, dry_run: bool) -> str:
    """What was found, what was done, and what should be known."""
    look = outcome.look
    head = f"{outcome.host}: {look.model or look.system or look.machine}, Python {look.version}, glibc {look.glibc}"
    rows = [
        [step.name, "there" if step.done else "to do" if dry_run else "done", step.what] for step in outcome.plan.steps
    ]
    if not outcome.plan.changes:
        end = f"nothing to do: release {outcome.release} runs"
    elif dry_run:
        end = "nothing was done (--dry-run)"
    else:
        end = f"the agent runs: {outcome.status}"
    lines = [f"{head}, {look.machine}; profile: {outcome.profile or 'none'}", table(["step", "", "what"], rows)]
    return "\n".join([*lines, *(f"note: {said}" for said in outcome.said), end])


def as_json(outcome: Outcome, dry_run: bool) -> dict[str, Any]:
    """The same for programs."""
    return {
        "host": outcome.host,
        "profile": outcome.profile,
        "release": outcome.release,
        "changed": outcome.plan.changes and not dry_run,
        "steps": [{"name": s.name, "done": s.done, "what": s.what, "files": len(s.files)} for s in outcome.plan.steps],
        "notes": list(outcome.said),
        "status": outcome.status,
    }


def _host(name: str, given: argparse.Namespace) -> Host:
    user, host = host_named(name)
    if not 0 < given.port < 65536:
        raise UsageError(f"expected --port between 1 and 65535, found {given.port}")
    password = _secret(given.password_file, "a password")
    return Host(
        name,
        user,
        host,
        given.port,
        given.identity,
        given.known_hosts,
        given.accept_new_host_key,
        None if password is None else password.decode(errors="replace"),
    )


def _wishes(given: argparse.Namespace) -> Wishes:
    profile = load(given.device, given.profiles) if given.device is not None else None
    wishes = Wishes(given.hub, given.bundle, given.data, profile, None, given.wheelhouse, quiet=given.json)
    tables: Mapping[str, Any] | None = read_toml(given.settings) if given.settings is not None else None
    if given.keep_data and not given.uninstall:
        raise UsageError("expected --keep-data beside --uninstall only; an installation keeps data anyway")
    return replace(
        wishes,
        tables=tables,
        sudo_password=_secret(given.sudo_password_file, "a password for sudo"),
        prefix=given.prefix,
    )


def _secret(path: Path | None, what: str) -> bytes | None:
    return None if path is None else read_bytes(path, what, SECRET_LIMIT).split(b"\n", 1)[0].rstrip(b"\r")


def _tokens(given: argparse.Namespace) -> dict[str, str]:
    """A claim token for each host; a token makes one board."""
    if given.claims is not None:
        return _listed(given.claims, given.hosts)
    if given.claim is None and given.claim_file is None:
        return {}
    if len(given.hosts) > 1:
        raise UsageError("expected --claims with a line for each board, found one token for several; it holds once")
    if given.claim is not None:
        return {given.hosts[0]: given.claim}
    if str(given.claim_file) == "-":
        return {given.hosts[0]: sys.stdin.read(TOKEN_LIMIT)}
    return {given.hosts[0]: read_bytes(given.claim_file, "a claim token", TOKEN_LIMIT).decode(errors="replace")}


def _listed(path: Path, hosts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(read_bytes(path, "claims").decode(errors="replace").splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            if len(words) != 2 or words[0] in found:
                raise UsageError(
                    f"expected USER@HOST and TOKEN in line {number} of {path}, each host once, found otherwise"
                )
            found[words[0]] = words[1]
    if len(set(found.values())) != len(found):
        raise UsageError(f"expected a token of its own for each board in {path}, found one twice; it holds once")
    absent = [host for host in hosts if host not in found]
    if absent:
        raise UsageError(f"expected a line for each board in {path}, found none for {', '.join(absent)}")
    return found
