"""Which libraries an agent needs on a board, and which of those that come along it does not."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from console.errors import StorageError
from console.toml import read_toml
from devices.payload.target import Target
from devices.profile import Profile

EXTRA = "edge"
HERE = Path(__file__).parents[2]  # where the rooms lie: a checkout, or site-packages
# What some require and an agent never imports: the client of a model hub, with twenty libraries behind it, and what
# onnxruntime's tools for other machines use (its releases up to 1.23).
UNUSED = frozenset({("tokenizers", "huggingface-hub"), ("onnxruntime", "sympy"), ("onnxruntime", "coloredlogs")})


# The newest onnxruntime that edgequilt is tested with: what boards without a profile get, as long as it is not known
# what newer ones do. A test holds it against constraints.txt, which no board has.
TESTED = "1.31.1"


@dataclass(frozen=True)
class Node:
    """A library of a resolution: its name, its version, and what it says that it requires."""

    name: str
    version: str
    requires: tuple[str, ...]


def named(name: str) -> str:
    """A library's name as indexes compare it (PEP 503).

    >>> named("huggingface_hub"), named("PyNaCl")
    ('huggingface-hub', 'pynacl')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(target: Target) -> tuple[str, ...]:
    """What edgequilt's core and its extra `edge` require on such a system, without markers.

    Raises:
        StorageError: neither a checkout nor an installation says so.
    """
    return tuple(sorted(_bare(r) for r in map(Requirement, _declared()) if _holds(r, target, ("", EXTRA))))


def limits(profile: Profile | None) -> tuple[str, ...]:
    """Constraints that a board sets; without a profile, or where it sets none, those of what was tested.

    >>> from devices.profile import load
    >>> limits(load("raspberry-pi-4-4gb"))[0].startswith("onnxruntime<=1.")
    True
    >>> limits(None) == (f"onnxruntime<={TESTED}",)
    True
    """
    newest = (profile.onnxruntime_max if profile is not None else None) or TESTED
    avoided = profile.onnxruntime_avoid if profile is not None else ()
    return (f"onnxruntime{','.join([f'<={newest}', *(f'!={version}' for version in avoided)])}",)


def reached(roots: Iterable[str], nodes: Mapping[str, Node], target: Target) -> tuple[tuple[str, ...], frozenset[str]]:
    """Which libraries the target needs, as far as they are known, and every requirement on the way to them.

    Returns:
        Names of nodes; requirements without markers, those of libraries that are no nodes yet among them.
    """
    waiting = [Requirement(root) for root in roots]
    seen: set[tuple[str, str]] = set()
    met: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        name = named(wanted.name)
        met.add(_bare(wanted))
        for extra in {"", *wanted.extras} if name in nodes else ():
            if (name, extra) not in seen:
                seen.add((name, extra))
                further = map(Requirement, nodes[name].requires)
                waiting += [r for r in further if (name, named(r.name)) not in UNUSED and _holds(r, target, (extra,))]
    return tuple(sorted({name for name, _ in seen})), frozenset(met)


def _holds(requirement: Requirement, target: Target, extras: tuple[str, ...]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**target.markers, "extra": extra}) for extra in extras)


def _bare(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{named(requirement.name)}{extras}{requirement.specifier}"


def _declared() -> list[str]:
    project = HERE / "pyproject.toml"
    if project.is_file():  # of a checkout: what is installed beside it may be older
        tables = read_toml(project)["project"]
        extra: list[str] = tables["optional-dependencies"][EXTRA]
        return [*tables["dependencies"], *extra]
    try:
        return importlib.metadata.requires("edgequilt") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise StorageError(
            f"expected edgequilt to be installed, or a checkout, found neither at {HERE}; install it with pip"
        ) from error
