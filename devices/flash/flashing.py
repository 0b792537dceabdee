"""One card: plan, stage, inject, write, read back, report; each step is a function, and none begins before all fits."""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.errors import UsageError
from console.progress import Progress
from devices.flash import writing
from devices.flash.changes import Changes, Seen
from devices.flash.disks import Disk
from devices.flash.image import Image, open_image
from devices.flash.report import Report, placed
from devices.flash.staging import Staged
from devices.flash.systems.release import target_of_root
from devices.flash.systems.system import System, recognise
from devices.flash.tools import run
from devices.flash.wishes import Wishes
from devices.payload.agent import agent_payload
from devices.payload.own import version
from devices.payload.release import Release, release
from devices.payload.settings import Settings
from devices.payload.target import Target
from devices.profile import Profile
from wire.token import parse_token

SECRET_FILES = ("network-config", "firstrun.sh", "rpi-preseed.toml")  # of the FAT partition


@dataclass(frozen=True)
class Order:
    """What a user asks for, the same for all cards.

    Attributes:
        image: as it was fetched.
        profile: the kind of board.
        wishes: of its system.
        hub: where boards reach the hub; None: the token says.
        bundle, data: folders that travel along.
        wheelhouse: wheels to take, without the network.
        tables: further entries of agent.toml, by table.
    """

    image: Path
    profile: Profile
    wishes: Wishes
    hub: str | None = None
    bundle: Path | None = None
    data: Path | None = None
    wheelhouse: Path | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What will be written into an image, before anything is."""

    system: System
    title: str
    target: Target
    release: Release
    changes: Changes
    device: str


@dataclass
class Watch:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Measure one."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = round(time.monotonic() - began, 2)


def plan(seen: Seen, order: Order, token: str, mark: str | None = None) -> Plan:
    """Decide what goes into an image.

    Args:
        seen: what it holds.
        order: see there.
        token: of the claim of this card's board.
        mark: of this card; by default a random one.

    Raises:
        EdgequiltError: no such system is known, no agent runs on it, a wheel is missing, the token is none.
    """
    system = recognise(seen)
    target = target_of_root(seen.root)
    made = release(target, order.profile, order.wheelhouse)
    settings = Settings(token, order.hub, order.profile.id, order.bundle is not None, order.tables)
    payload = agent_payload(made, settings, order.profile, bundle=order.bundle, data=order.data)
    found = system.changes(seen, order.wishes, mark or random.token_hex(6))
    changes = Changes(found.boot, found.root + payload, found.said)
    return Plan(system, system.title(seen) or system.name, target, made, changes, parse_token(token).name)


def prepare(staged: Path, order: Order, token: str, say: Callable[[str], None]) -> tuple[Image, Plan]:
    """Plan for a staged image and write the changes into it.

    Raises:
        EdgequiltError: see `plan` and `Image.change`.
    """
    image = open_image(staged)
    found = plan(image.seen, order, token)
    return image.change(found.changes, say), found


def write_card(
    image: Path, target: Path, watch: Watch, bar: Progress, *, card: bool = False, force: bool = False
) -> str:
    """Write an image onto a card or into a file, and read it back; returns the SHA-256 of it.

    Raises:
        StorageError, IntegrityError: nothing bootable is left on the card, no file is left.
        UsageError: there is a file of that name.
    """
    if card:
        return _write(image, target, watch, bar)
    if writing.is_device(target):
        raise UsageError(f"expected a file for --to, found that {target} is a disk by now; nothing was written")
    if target.exists() and not force:
        raise UsageError(f"expected a new file for --to, found {target}; take another name, or --force")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        found = _write(image, part, watch, bar)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return found


def _write(image: Path, target: Path, watch: Watch, bar: Progress) -> str:
    with writing.opened(target) as descriptor:
        with watch("write"):
            bar.say("writing")
            writing.write(image, descriptor, bar.advance)
        with watch("verify"):
            bar.say("reading back")
            sha256 = writing.verify(image, target, bar.advance)
            try:
                writing.finish(image, descriptor)
                writing.verify_first(image, target)
            except BaseException:
                writing.blank(descriptor)
                raise
    return sha256


def reported(
    order: Order, staged: Staged, image: Image, found: Plan, to: Disk | Path, sha256: str, watch: Watch
) -> Report:
    """The report of a card that is done."""
    where = {"path": str(to)} if isinstance(to, Path) else {"path": to.path, "name": to.name, "serial": to.serial}
    source = (order.image.name, staged.sha256)
    return told(order, found, source, where, (image.path.stat().st_size, sha256), watch, SECRET_FILES)


def told(
    order: Order,
    found: Plan,
    source: tuple[str, str],
    where: Mapping[str, str],
    written: tuple[int, str],
    watch: Watch,
    secrets: tuple[str, ...] = (),
) -> Report:
    """A report.

    Args:
        order: what was asked for.
        found: what was made of it.
        source: name and SHA-256 of what was given.
        where: it was written to.
        written: bytes, and the SHA-256 of them.
        watch: seconds by step.
        secrets: names of files of the FAT partition of which nothing is told.
    """
    return Report(
        image=source[0],
        image_sha256=source[1],
        system=found.system.name,
        title=found.title,
        target=str(found.target),
        release=found.release.version,
        device=found.device,
        profile=order.profile.id,
        written_to=where,
        size_bytes=written[0],
        sha256=written[1],
        placed=placed(found.changes, secrets),
        said=found.changes.said,
        seconds=watch.seconds,
        edgequilt=version(),
    )


def copied(source: Path, target: Path) -> Path:
    """The same sparse file once more, for the next card."""
    run("cp", ["--sparse=always", "--reflink=auto", source, target])
    return target
