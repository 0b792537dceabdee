"""One door to pip: what fits a system, and fetching it. pip runs as a program, as it wants to be used."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import DoesNotFit, EdgequiltError, MissingDependency, TransportError
from devices.payload.needs import Node, named
from devices.payload.target import Target

NO_PIP = f"choosing wheels needs pip in {sys.executable}: python -m ensurepip"
OFFLINE = ("Connection", "Temporary failure", "Name or service", "ProxyError", "timed out")


@dataclass(frozen=True)
class Chosen:
    """A wheel that pip chose: the library, where it is, and the SHA-256 that the index promises."""

    node: Node
    url: str
    sha256: str


def resolve(
    wanted: Sequence[str], limits: Sequence[str], target: Target, wheelhouse: Path | None = None
) -> dict[str, Chosen]:
    """The newest wheels that answer requirements on a system, by name, without what those require.

    Args:
        wanted: requirements without markers.
        limits: constraints.
        target: the system.
        wheelhouse: a folder of wheels to choose from, without the network.

    Raises:
        DoesNotFit: there is no wheel of something for this system.
        TransportError: the package index cannot be reached.
        MissingDependency: there is no pip.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder, "report.json"), Path(folder, "constraints.txt")
        constraints.write_text("\n".join(limits) + "\n", encoding="utf-8")
        source = [] if wheelhouse is None else ["--no-index", "--find-links", str(wheelhouse.resolve())]
        arguments = [
            "install",
            "--dry-run",
            "--no-deps",
            "--report",
            str(report),
            "--target",
            folder,
            "-c",
            str(constraints),
        ]
        _run([*arguments, *source, *_for(target), *wanted], target, wheelhouse)
        found = json.loads(report.read_bytes())
    return {chosen.node.name: chosen for chosen in map(_chosen, found["install"])}


def fetch(chosen: Sequence[Chosen], target: Target, folder: Path) -> None:
    """Download wheels into a folder; pip compares their digests.

    Raises:
        TransportError, DoesNotFit, MissingDependency: see `resolve`.
    """
    urls = [f"{c.url}#sha256={c.sha256}" for c in chosen]
    _run(["download", "--no-deps", "--dest", str(folder), *_for(target), *urls], target, None)


def _for(target: Target) -> list[str]:
    platforms = [word for platform in target.platforms for word in ("--platform", platform)]
    abis = [word for abi in target.abis for word in ("--abi", abi)]
    python = ["--python-version", target.python, "--implementation", "cp"]
    return ["--only-binary=:all:", *platforms, *python, *abis]


def _run(arguments: list[str], target: Target, wheelhouse: Path | None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise _why(done.stderr, target, wheelhouse)


def _chosen(entry: dict[str, Any]) -> Chosen:
    said, info = entry["metadata"], entry["download_info"]
    node = Node(named(said["name"]), said["version"], tuple(said.get("requires_dist", ())))
    return Chosen(node, info["url"].partition("#")[0], _sha256(info["archive_info"]))


def require_pip() -> None:
    """Look for it before other work is done.

    Raises:
        MissingDependency: there is none.
    """
    if importlib.util.find_spec("pip") is None:
        raise MissingDependency(NO_PIP)


def _why(stderr: str, target: Target, wheelhouse: Path | None) -> EdgequiltError:
    """pip's complaint as one sentence."""
    if "No module named pip" in stderr:
        return MissingDependency(NO_PIP)
    absent = re.search(r"No matching distribution found for (.+)", stderr)
    if any(word in stderr for word in OFFLINE) and wheelhouse is None:
        return TransportError(
            "expected a package index, found none that answers; connect this machine, or give --wheelhouse with a "
            "folder of wheels"
        )
    if absent:
        where = f"in {wheelhouse}" if wheelhouse is not None else "in the package index"
        return DoesNotFit(f"expected a wheel of {absent[1].strip()} for {target} {where}, found none")
    errors = [line.removeprefix("ERROR:").strip() for line in stderr.splitlines() if line.startswith("ERROR:")]
    return DoesNotFit(f"expected wheels that go together for {target}, but pip says: {'; '.join(errors) or stderr}")


def _sha256(archive: dict[str, Any]) -> str:
    """As pip says it since 23.1, or before (PEP 610).

    >>> _sha256({"hashes": {"sha256": "ab"}}), _sha256({"hash": "sha256=ab"})
    ('ab', 'ab')
    """
    return str(archive["hashes"]["sha256"] if "hashes" in archive else archive["hash"].removeprefix("sha256="))
