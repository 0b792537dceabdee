"""The wheels that an agent needs on a board, chosen and kept on this machine: a second board costs nothing."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from console.errors import DoesNotFit, StorageError
from devices.payload.needs import Node, limits, named, needs, reached
from devices.payload.pip import Chosen, fetch, resolve
from devices.payload.target import Target
from devices.profile import Profile
from wire.files import digest, file_digest, write_atomic

KNOWN_FOR_S = 7 * 86400.0  # how long a choice holds: boards of one week are alike, and updates still come
ROUNDS = 9  # of asking pip for what the libraries of the round before require


@dataclass(frozen=True)
class Wheel:
    """A library as a file."""

    name: str
    version: str
    path: Path
    sha256: str


def cache_folder() -> Path:
    """Where wheels are kept: below `XDG_CACHE_HOME`, or else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgequilt" / "wheels"


def wheels_for(
    target: Target, profile: Profile | None = None, wheelhouse: Path | None = None, cache: Path | None = None
) -> tuple[Wheel, ...]:
    """What an agent needs on such a system, by name.

    Args:
        target: the system.
        profile: whose limits on onnxruntime count.
        wheelhouse: a folder of wheels to take; no network is used then.
        cache: where wheels and choices are kept; by default `cache_folder`.

    Raises:
        DoesNotFit: something has no wheel for this system; says what.
        TransportError: the package index cannot be reached.
        StorageError: a folder is not there, or cannot be written.
        MissingDependency: there is no pip.
    """
    wanted, limited = needs(target), limits(profile)
    folder = cache_folder() if cache is None else cache
    asked = (target, wanted, limited, None if wheelhouse is None else _listing(wheelhouse))
    note = folder / "chosen" / f"{digest(repr(asked).encode())[:16]}.json"
    chosen = _known(note)
    if chosen is None:
        chosen = choose(wanted, limited, target, wheelhouse)
        write_atomic(note, json.dumps([_plain(c) for c in chosen], indent=1).encode())
    return _fetched(chosen, target, folder) if wheelhouse is None else tuple(map(_local, chosen))


def choose(
    wanted: tuple[str, ...], limited: tuple[str, ...], target: Target, wheelhouse: Path | None = None
) -> tuple[Chosen, ...]:
    """The wheels that some requirements lead to on a system, and all that those require in turn.

    pip is asked without dependencies, again and again, since it would read their markers for the Python that it runs
    in, whatever `--python-version` says, and would insist on libraries that no agent imports.

    Raises:
        DoesNotFit, TransportError, MissingDependency: see `wheels_for`.
    """
    asked = frozenset(wanted)
    for _ in range(ROUNDS):
        found = resolve(sorted(asked), limited, target, wheelhouse)
        names, met = reached(wanted, {name: c.node for name, c in found.items()}, target)
        if met <= asked:
            return tuple(found[name] for name in names)
        asked |= met
    more = ", ".join(sorted(met - asked))
    raise DoesNotFit(f"expected libraries for {target} that go together, found that each asks for more: {more}")


def _fetched(chosen: tuple[Chosen, ...], target: Target, folder: Path) -> tuple[Wheel, ...]:
    kept = {c.node.name: folder / _file_of(c) for c in chosen}
    absent = [c for c in chosen if not _is(kept[c.node.name], c.sha256)]
    for c in absent:
        kept[c.node.name].unlink(missing_ok=True)
    if absent:
        folder.mkdir(parents=True, exist_ok=True)
        fetch(absent, target, folder)
    return tuple(Wheel(c.node.name, c.node.version, kept[c.node.name], c.sha256) for c in chosen)


def _listing(wheelhouse: Path) -> list[tuple[str, int, int]]:
    """What tells whether a folder of wheels has changed."""
    if not wheelhouse.is_dir():
        raise StorageError(f"expected a folder of wheels, found none at {wheelhouse}; check the path")
    found = [(path.resolve(), path.stat()) for path in sorted(wheelhouse.glob("*.whl"))]
    return [(str(path), about.st_size, about.st_mtime_ns) for path, about in found]


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_digest(path) == sha256


def _file_of(chosen: Chosen) -> str:
    return unquote(urlsplit(chosen.url).path).rsplit("/", 1)[-1]


def _local(chosen: Chosen) -> Wheel:
    return Wheel(chosen.node.name, chosen.node.version, Path(unquote(urlsplit(chosen.url).path)), chosen.sha256)


def _known(note: Path) -> tuple[Chosen, ...] | None:
    """An earlier choice, unless it is old or damaged."""
    try:
        if time.time() - note.stat().st_mtime > KNOWN_FOR_S:
            return None
        entries = json.loads(note.read_bytes())
        return tuple(Chosen(Node(named(e["name"]), e["version"], ()), str(e["url"]), str(e["sha256"])) for e in entries)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _plain(chosen: Chosen) -> dict[str, str]:
    node = chosen.node
    return {"name": node.name, "version": node.version, "url": chosen.url, "sha256": chosen.sha256}
