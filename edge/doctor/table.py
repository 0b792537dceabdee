"""The checks, in the order in which their troubles explain each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from console.errors import (
    DoesNotFit,
    EdgequiltError,
    HubError,
    MissingDependency,
    SignatureError,
    StorageError,
    TransportError,
    UsageError,
)
from edge.doctor import machine, network, service, setup
from edge.doctor.board import Board
from edge.doctor.finding import Finding, unknown


class Check(NamedTuple):
    """A name, what looks and judges, and the class of its trouble (its exit code)."""

    name: str
    look: Callable[[Board], Finding]
    kind: type[EdgequiltError]


CHECKS = (
    Check("configuration", setup.configuration, UsageError),
    Check("claim", setup.claimed, HubError),
    Check("keys", setup.keys, SignatureError),
    Check("python", machine.python, MissingDependency),
    Check("onnxruntime", machine.runtime, MissingDependency),
    Check("disk", machine.disk, StorageError),
    Check("memory", machine.memory, DoesNotFit),
    Check("power", machine.power, EdgequiltError),
    Check("clock", network.clock, TransportError),
    Check("names", network.names, TransportError),
    Check("reach", network.reach, TransportError),
    Check("certificate", network.certificate, SignatureError),
    Check("tls", network.tls, TransportError),
    Check("enrolled", network.enrolled, HubError),
    Check("twins", service.twins, HubError),
    Check("unit", service.unit, EdgequiltError),
    Check("agent", service.agent, EdgequiltError),
    Check("bundle", service.bundle, EdgequiltError),
    Check("release", service.release, EdgequiltError),
)


def examine(board: Board) -> Iterator[tuple[Check, Finding]]:
    """Every check's finding, as it is made."""
    for check in CHECKS:
        yield check, _looked(check, board)


def _looked(check: Check, board: Board) -> Finding:
    try:
        return check.look(board)
    except PermissionError as error:
        return unknown(f"this user may not read {error.filename}; run this as root")


def exit_code(found: list[tuple[Check, Finding]]) -> int:
    """Of the first problem; 0 without any."""
    return next((check.kind.exit_code for check, finding in found if finding.level == "problem"), 0)
