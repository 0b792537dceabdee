"""What an installation will do, from what is wanted and what is there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from console.errors import UsageError
from console.table import size
from devices.payload.placed import Payload, Placed
from devices.payload.places import CLAIM, CONFIG, CURRENT, HOME, RELEASE_FILE, RELEASES, SUMS_FILE, UNIT, UNITS
from devices.payload.release import Release, digest_of, size_of
from wire.json_text import parse_json

IDENTITY = f"{HOME}/identity.json"
UNIT_FILE = f"{UNITS}/{UNIT}"


@dataclass(frozen=True)
class Wanted:
    """What shall be on a board.

    Attributes:
        release: of the agent.
        program: launcher, command and unit, which belong to root.
        settings: agent.toml and token, for a board that is nobody yet; None: no token was given.
        carried: a bundle and data for such a board.
        name, fleet: whom the token names; empty without one.
    """

    release: Release
    program: Payload
    settings: Payload | None = field(default=None, repr=False)
    carried: Payload = field(default_factory=Payload)
    name: str = ""
    fleet: str = ""


@dataclass(frozen=True)
class Found:
    """What is there.

    Attributes:
        digests: SHA-256 by path; empty where there is no file.
        links: what each link says.
        identity: who the board is; None: nobody yet.
        complete: whether the release is there as a whole.
        whole: its files (`lib/...`) that are there as they should be.
        active: whether the service runs, as systemd says it (`active`, `inactive`, `failed`, ...).
        enabled: whether it is started with the board, as systemd says it.
    """

    digests: Mapping[str, str]
    links: Mapping[str, str]
    identity: Mapping[str, Any] | None
    complete: bool
    whole: frozenset[str]
    active: str
    enabled: str


@dataclass(frozen=True)
class Step:
    """A part of an installation: its name, what is done, and the files to send for it; `done`: it is so already."""

    name: str
    what: str
    done: bool
    files: tuple[Placed, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Plan:
    """The steps in their order, and what should be known."""

    steps: tuple[Step, ...]
    said: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return not all(step.done for step in self.steps)

    def step(self, name: str) -> Step:
        """The step of a name."""
        return next(step for step in self.steps if step.name == name)


def asked_of(wanted: Wanted) -> tuple[list[str], list[str], list[str]]:
    """The paths of which a board is asked for digests, for what they link to, and for their text."""
    settings = wanted.settings.files if wanted.settings is not None else ()
    files = [*wanted.program.files, *settings, *wanted.carried.files]
    return [file.path for file in files], [CURRENT], [IDENTITY]


def identity_in(text: str | None) -> Mapping[str, Any] | None:
    """Who a board is, by its identity.json.

    Raises:
        UsageError: the file is damaged; nothing is done to such a board.
    """
    if text is None:
        return None
    try:
        found = parse_json(text)
        return {"name": str(found["name"]), "fleet": str(found["fleet"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"expected an identity in the board's {IDENTITY}, found something else; look at it there"
        ) from error


def plan(wanted: Wanted, found: Found) -> Plan:
    """What to do.

    Raises:
        UsageError: the board is another device, or is nobody and there is no token.
    """
    known, said = found.identity, []
    if known is not None and wanted.name and (known["name"], known["fleet"]) != (wanted.name, wanted.fleet):
        raise UsageError(
            f"expected a board that is nobody yet or {wanted.name} of {wanted.fleet}, found {known['name']} of "
            f"{known['fleet']}; its keys are not overwritten: --uninstall first, or choose another board"
        )
    if known is None and wanted.settings is None:
        raise UsageError(
            "expected --claim or --claim-file, since the board is nobody yet; `edgequilt hub enroll NAME` makes one"
        )
    if known is not None and wanted.settings is not None:
        said.append(
            f"it is {known['name']} of {known['fleet']} already: keys, settings and data stay, the token is not used"
        )
    steps = [_release(wanted.release, found), *_rest(wanted, found), _current(wanted.release, found)]
    fresh = all(step.done for step in steps)
    running = found.active == "active" and found.enabled == "enabled"
    what = "runs" if fresh and running else "enable and restart it, and wait until it is healthy"
    steps.append(Step("service", what, fresh and running))
    return Plan(tuple(steps), tuple(said))


def partial(release: Release) -> str:
    """Where a release lies until all of it is there."""
    return f"{RELEASES}/.{release.version}.partial"


def _release(release: Release, found: Found) -> Step:
    if found.complete:
        return Step("release", f"{release.version} is there", True)
    root, to = f"{release.folder}/", f"{partial(release)}/"
    inside = {file.path.removeprefix(root): file for file in release.files}
    files = tuple(
        Placed(f"{to}{name}", file.content, file.mode)
        for name, file in inside.items()
        if name in (SUMS_FILE, RELEASE_FILE) or name not in found.whole
    )
    there = len(release.files) - len(files)
    rest = f", {there} are there" if there else ""
    return Step("release", f"send {len(files)} files of {release.version}, {size(_sum(files))}{rest}", False, files)


def _rest(wanted: Wanted, found: Found) -> list[Step]:
    nobody = found.identity is None
    groups = [("program", wanted.program.files)]
    if nobody and wanted.settings is not None:
        groups += [("settings", wanted.settings.files)]
        groups += [("carried", wanted.carried.files)] if wanted.carried.files else []
    return [_group(name, files, found) for name, files in groups]


def _group(name: str, files: tuple[Placed, ...], found: Found) -> Step:
    other = tuple(file for file in files if found.digests.get(file.path) != digest_of(file))
    if not other:
        return Step(name, _there(name, files), True)
    what = ", ".join(file.path for file in other) if len(other) <= 4 else f"{len(other)} files, {size(_sum(other))}"
    return Step(name, f"write {what}", False, other)


def _there(name: str, files: tuple[Placed, ...]) -> str:
    return {"program": "launcher, command and unit are there", "settings": f"{CONFIG} and {CLAIM} are there"}.get(
        name, f"{len(files)} files are there"
    )


def _current(release: Release, found: Found) -> Step:
    before, after = found.links.get(CURRENT), f"releases/{release.version}"
    if before == after:
        return Step("current", f"is {release.version}", True)
    was = f", {before.rpartition('/')[2]} stays beside it" if before else ""
    return Step("current", f"becomes {release.version}{was}", False)


def _sum(files: tuple[Placed, ...]) -> int:
    return sum(map(size_of, files))
