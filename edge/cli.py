"""`edgequilt agent run | claim | infer | feedback`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from console.arguments import Arguments
from console.errors import EdgequiltError, UsageError
from edge.cli_board import DEEDS, add_board_verbs
from edge.local.cli import add_feedback, feedback, running
from edge.local.cli import infer as ask_running
from wire.files import read_bytes

if TYPE_CHECKING:
    from edge.config import Config
    from edge.notice import Notice

log = logging.getLogger("edgequilt.agent")
NICE = 5  # of the worker: what the board is for comes first


def main(argv: list[str]) -> int:
    """The verb `agent`; returns the exit code.

    Raises:
        EdgequiltError: what is wrong with the command line, the configuration or the bundle.
    """
    parser = Arguments("edgequilt agent", description="The agent of a board.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="connect to the hub and work")
    run.add_argument("--config", type=Path, required=True, help="agent.toml (docs/agent.md)")
    run.add_argument("--quiet", action="store_true", help="log warnings only")
    run.add_argument("--quiet-hours", metavar="22:00-06:00", help="train within these hours only, local time")
    claim = verbs.add_parser("claim", help="become a device of a fleet by a token of its hub")
    claim.add_argument("token", nargs="?", help="the token; others on this machine see it in the list of processes")
    claim.add_argument("--token-file", type=Path, metavar="FILE", help="where the token is; - for standard input")
    claim.add_argument("--dir", type=Path, required=True, help="folder for keys, certificates and agent.toml")
    claim.add_argument("--hub", metavar="HOST:PORT", help="ask there instead of where the token says")
    claim.add_argument("--bundle", type=Path, metavar="DIR", help="agent.toml will name it")
    claim.add_argument("--data", type=Path, metavar="PATH", help="agent.toml will name it")
    claim.add_argument("--json", action="store_true")
    infer = verbs.add_parser("infer", help="label texts, pictures, sounds or arrays with a bundle")
    infer.add_argument("--config", type=Path, help="agent.toml: ask its agent if it runs, else as it would answer")
    infer.add_argument("--socket", type=Path, help="ask the agent that listens there (docs/local-api.md)")
    infer.add_argument("--bundle", type=Path)
    infer.add_argument("--trust", type=Path, help="the publisher's .pub file")
    infer.add_argument("--adapter", type=Path, help="an adapter file to apply")
    infer.add_argument("--json", action="store_true")
    infer.add_argument("samples", nargs="+", metavar="TEXT", help="texts, or paths of pictures, sounds or arrays")
    add_feedback(verbs)
    add_board_verbs(verbs)
    given = parser.parse_args(argv)
    return {"run": _run, "claim": _claim, "infer": _infer, "feedback": feedback, **DEEDS}[given.verb](given)


def _run(given: argparse.Namespace) -> int:
    from edge.ended import note_end
    from edge.ending import on_signal
    from edge.logs import log_to_stderr
    from edge.notice import Notice

    log_to_stderr(logging.WARNING if given.quiet else logging.INFO)
    stop, wake, notice = threading.Event(), [lambda: None], Notice()

    def end() -> None:
        stop.set()
        wake[0]()

    let_go = on_signal(end)
    notice.ready()
    try:
        then = _live(given, stop, wake, notice)
    except EdgequiltError as error:
        note_end(given.config.parent, error, time.time())
        raise
    if then:
        let_go()  # a signal that comes now would be lost with this program
    if then and not stop.is_set():
        os.execv(sys.executable, [sys.executable, *then])  # noqa: S606  # no shell
    return 0


def with_hours(config: Config, hours: str | None) -> Config:
    """A configuration whose training goes on within other hours; all else that training waits for stays.

    Raises:
        UsageError: these are no hours.
    """
    from dataclasses import replace

    from edge.idle.settings import ALWAYS, wrong_hours

    if hours is None:
        return config
    idle = replace(config.idle or ALWAYS, quiet_hours=hours)
    if wrong_hours(idle):
        raise UsageError(f"--quiet-hours: {wrong_hours(idle)}")
    return replace(config, idle=idle)


def _live(
    given: argparse.Namespace, stop: threading.Event, wake: list[Callable[[], None]], notice: Notice
) -> list[str]:
    """Become a device if that is still to be done, and work; as what to begin anew: arguments of Python, or none."""
    from edge.config import read_config
    from edge.identity.first import claim_first
    from edge.identity.keeper import Keeper

    notice.status("waiting to be claimed: the hub was not asked yet, or does not answer")
    claim_first(given.config, stop, notice.patient)
    if stop.is_set():
        return []
    notice.patient()
    notice.status("starting: the bundle and the data are looked through")
    config = with_hours(read_config(given.config), given.quiet_hours)
    keeper = Keeper(config.device_key.parent)
    keeper.start()
    try:
        return _serve(given.config, config, stop, wake, notice)
    finally:
        keeper.close()


def _serve(
    path: Path, config: Config, stop: threading.Event, wake: list[Callable[[], None]], notice: Notice
) -> list[str]:
    """Work with the bundle that is in use, until there is another one, or another release of the agent."""
    from edge.core import Core
    from edge.ended import forget_end
    from edge.link import WorkerLink
    from edge.local.api import opened
    from edge.logs import log_to_file
    from edge.setup import broker_of, prepare
    from edge.slots.opening import opened as updates_of
    from wire.mqtt import MqttTransport

    setup, broker = prepare(config), broker_of(config)
    log_to_file(config.state)
    transport = MqttTransport(
        broker, f"edgequilt-{config.fleet}-{config.name}", setup.voice.will(), config.broker.protocol
    )
    link = WorkerLink(setup.budget_bytes, config.worker_idle_s, config.threads, nice=NICE)
    core = Core(setup, transport, link)
    core.updates = updates_of(core, path)
    api = opened(core)
    wake[0] = core.wake
    what = f"model {setup.model}, rank {setup.rank}" if setup.bundle else "no bundle yet"
    log.info("agent %s of %s, %s, to %r", setup.name, config.fleet, what, broker)
    if config.idle is not None and config.idle.quiet_hours:
        log.info("it trains within the hours %s only (local time)", config.idle.quiet_hours)
    try:
        core.start()
        forget_end(path.parent)
        notice.strict()
        core.run(stop, notice)
    finally:
        (notice.patient if core.again or core.leaves else notice.stopping)()
        if api is not None:
            api.close()
        core.close()
        if setup.lock is not None:
            setup.lock.close()
        log.info("agent %s ends", setup.name)
    if core.leaves:  # without a launcher's path, whoever starts the agent starts the launcher
        launcher = os.environ.get("EDGEQUILT_LAUNCHER")
        return ["-I", launcher, *sys.argv[1:]] if launcher else []
    return list(sys.orig_argv[1:]) if core.again else []  # a new program: what fetching took of memory would stay


def _claim(given: argparse.Namespace) -> int:
    from edge.identity.claim import claim
    from edge.identity.configuration import Wishes
    from wire.token import TOKEN_LIMIT, parse_token

    if (given.token is None) == (given.token_file is None):
        raise UsageError("expected a token, or --token-file, found both or neither; give one of them")
    if given.token is not None:
        text = given.token
    elif str(given.token_file) == "-":
        text = sys.stdin.read(TOKEN_LIMIT)
    else:
        text = read_bytes(given.token_file, "a claim token", TOKEN_LIMIT).decode(errors="replace")
    found = claim(parse_token(text), given.dir, Wishes(given.bundle, given.data), given.hub)
    name, fleet = found.identity.name, found.identity.fleet
    if given.json:
        print(json.dumps({"device": name, "fleet": fleet, "config": str(found.config), "asked": found.anew}))
    else:
        print(f"this board is {name} of {fleet}; start it: edgequilt agent run --config {found.config}")
    return 0


def _infer(given: argparse.Namespace) -> int:
    agent = running(given)
    if agent is not None:
        return ask_running(agent, given)
    from edge.model import load, serving
    from wire.adapter import read_adapter

    if given.config is not None:
        from edge.config import read_config

        model = serving(read_config(given.config))
    elif given.bundle is not None and given.trust is not None:
        model = load(given.bundle, given.trust)
    else:
        raise UsageError("expected --config, or --bundle and --trust, found neither; say which bundle to use")
    if given.adapter is not None:
        model.apply(read_adapter(read_bytes(given.adapter, "an adapter"), str(given.adapter)))
    for sample, found in zip(given.samples, model.infer(given.samples), strict=True):
        if given.json:
            print(json.dumps({"sample": sample, **found}, ensure_ascii=False))
        else:
            print(f"{found['label']}  {100 * found['scores'][found['label']]:.1f} %  {sample}")
    return 0
