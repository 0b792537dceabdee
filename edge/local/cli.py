"""`edgequilt agent infer` of a running agent, and `edgequilt agent feedback`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.errors import UsageError
from console.table import many
from devices.payload.places import SOCKET

if TYPE_CHECKING:
    from edge.local.client import LocalAgent


def add_feedback(verbs: Any) -> None:
    """The options of `feedback`, with their help."""
    told = verbs.add_parser("feedback", help="correct a label, for the next training")
    told.add_argument("sample", metavar="SAMPLE", help="a text, a path (picture, sound, arrays), or an answer's id")
    told.add_argument("--label", required=True, help="what it is")
    told.add_argument("--config", type=Path, help="agent.toml of the agent that runs")
    told.add_argument("--socket", type=Path, help=f"where it listens (default: {SOCKET})")
    told.add_argument("--json", action="store_true")


def feedback(given: argparse.Namespace) -> int:
    """Correct a label.

    Raises:
        EdgequiltError: nobody listens, or the label is none.
    """
    agent = agent_of(given.socket, given.config)
    if agent is None:
        raise UsageError("expected --socket, or --config of an agent with a local socket, found neither")
    found = agent.feedback(given.sample, given.label)
    if given.json:
        print(json.dumps(found, ensure_ascii=False))
    elif found["new"]:
        print(f"{found['label']} is kept for the next training; corrected by now: {many(found['corrected'], 'label')}")
    else:
        print(f"{found['label']} was known already")
    return 0


def agent_of(at: Path | None, config: Path | None) -> LocalAgent | None:
    """The agent behind a socket that was named, or that agent.toml names, or that boards have; None: nothing is said.

    Raises:
        UsageError: agent.toml is not what it should be.
    """
    from edge.local.client import LocalAgent  # http.client is not for an agent's memory

    if at is None and config is not None:
        from edge.config import read_config

        at = read_config(config).local.socket
    elif at is None and Path(SOCKET).exists():
        at = Path(SOCKET)
    return None if at is None else LocalAgent(at)


def running(given: argparse.Namespace) -> LocalAgent | None:
    """The agent that `infer` asks: the one of --socket; or that of --config, if it runs."""
    if given.adapter is not None or given.bundle is not None:
        if given.socket is not None:
            raise UsageError("expected --socket alone, found --bundle or --adapter too; the agent has its own")
        return None
    agent = agent_of(given.socket, given.config) if given.socket or given.config else None
    return agent if agent is not None and (given.socket is not None or agent.is_there()) else None


def infer(agent: LocalAgent, given: argparse.Namespace) -> int:
    """Print what a running agent answers."""
    for sample, found in zip(given.samples, agent.infer(given.samples), strict=True):
        if given.json:
            record = {"sample": sample, "label": found["label"], "scores": found["scores"], "id": found["sample"]}
            print(json.dumps(record, ensure_ascii=False))
        else:
            print(f"{found['label']}  {100 * found['score']:.1f} %  {sample}")
    return 0
