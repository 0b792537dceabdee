"""Which opset and IR version a fleet's graphs may have: what its oldest onnxruntime runs.

onnxruntime runs every model of an opset and an IR version up to those that it was built with, and refuses newer
ones at load ("ONNX Runtime compatibility", onnxruntime.ai/docs/reference/compatibility.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from console.errors import DoesNotFit

OPSET = 21  # what our rewriting and gradient rules are verified for, whatever newer runtimes run
IR_VERSION = 10
OLDEST = "1.22"  # that an agent runs on; stands for a board whose runtime is not known

# The newest opset and IR version from this release of onnxruntime on. 1.23 and 1.31 are measured (1.23.2 and
# 1.31.1 were given models of every opset and IR version), the others are those of the ONNX release that each was
# built with, by its version table; a release between two rows counts as the older one.
NEWEST: tuple[tuple[tuple[int, int], int, int], ...] = (
    ((1, 16), 19, 9),
    ((1, 17), 20, 9),
    ((1, 18), 21, 10),
    ((1, 21), 22, 10),
    ((1, 23), 23, 11),
    ((1, 31), 26, 13),
)


@dataclass(frozen=True)
class Opset:
    """What graphs are written in, and the runtime that decided it."""

    version: int
    ir_version: int
    runtime: str


def newest_for(runtime: str) -> tuple[int, int]:
    """The newest opset and IR version that a release of onnxruntime runs; (0, 0) before the table begins.

    >>> newest_for("1.23.2"), newest_for("1.22.0"), newest_for("1.31.1")
    ((23, 11), (22, 10), (26, 13))
    """
    known = [(opset, ir_version) for release, opset, ir_version in NEWEST if release <= release_of(runtime)]
    return known[-1] if known else (0, 0)


def opset_of(boards: Iterable[tuple[str, str | None]]) -> Opset:
    """What every one of some boards runs.

    Args:
        boards: the name of each and the newest runtime that it can have; None counts as `OLDEST`.

    Raises:
        DoesNotFit: some do not run what our rules make; names them all.
    """
    runtimes = [(name, runtime or OLDEST) for name, runtime in boards]
    old = [f"{_shortcoming(runtime)} ({name})" for name, runtime in runtimes if _is_old(runtime)]
    if old:
        raise DoesNotFit(_refusal(old))
    return opset_for(runtime for _, runtime in runtimes)


def opset_for(runtimes: Iterable[str]) -> Opset:
    """What every one of some runtimes runs, at most what our rules are verified for.

    Args:
        runtimes: releases such as `1.23.2`, one per board; `OLDEST` stands for none.

    Raises:
        DoesNotFit: the oldest does not run what our rules make.

    >>> opset_for(["1.31.1", "1.23.2"])
    Opset(version=21, ir_version=10, runtime='1.23.2')
    """
    oldest = min(runtimes, key=release_of, default=OLDEST)
    if _is_old(oldest):
        raise DoesNotFit(_refusal([_shortcoming(oldest)]))
    opset, ir_version = newest_for(oldest)
    return Opset(min(opset, OPSET), min(ir_version, IR_VERSION), oldest)


def _is_old(runtime: str) -> bool:
    opset, ir_version = newest_for(runtime)
    return opset < OPSET or ir_version < IR_VERSION


def _shortcoming(runtime: str) -> str:
    opset, _ = newest_for(runtime)
    return f"onnxruntime {runtime}, which runs {f'opset {opset} at most' if opset else 'less'}"


def _refusal(found: Sequence[str]) -> str:
    boards = "that board out or update it" if len(found) == 1 else "those boards out or update them"
    return (
        f"expected runtimes that run opset {OPSET} (onnxruntime 1.18 or newer), found {' and '.join(found)}; "
        f"leave {boards}"
    )


def release_of(runtime: str) -> tuple[int, int]:
    """Major and minor of a version.

    >>> release_of("1.23.2"), release_of("1.31")
    ((1, 23), (1, 31))
    """
    major, minor = [*runtime.split("."), "0"][:2]
    return int(major), int(minor)
