"""One card: stage, inject, write, read back, report; each step is a function, and none begins before all fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from console.errors import UsageError
from console.progress import Progress
from devices.flash import writing
from devices.flash.disks import Disk
from devices.flash.image import Image, open_image
from devices.flash.limit import Limit
from devices.flash.plan import Order, Plan, plan
from devices.flash.report import Report, placed
from devices.flash.room import Growth
from devices.flash.same import require_same
from devices.flash.staging import Staged
from devices.flash.stall import watched
from devices.flash.tools import run
from devices.flash.work import work_folder
from devices.payload.own import version
from wire.files import sync_folder

SECRET_FILES = ("network-config", "firstrun.sh", "rpi-preseed.toml")  # of the FAT partition


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


def prepare(
    staged: Path,
    order: Order,
    token: str,
    limit: Limit,
    say: Callable[[str], None] = lambda text: None,
    room: Callable[[Growth], None] = lambda growth: None,
) -> tuple[Image, Plan]:
    """Plan for a staged image and write the changes into it.

    Args:
        staged: the image.
        order: what was asked for.
        token: of the claim of this card's board.
        limit: most that the image may become.
        say: told what takes its time.
        room: asked whether there is room here for what the image becomes.

    Raises:
        EdgequiltError: see `devices.flash.plan.plan`, `Limit.require` and `Image.change`.
    """
    image = open_image(staged)
    found = plan(image.seen, order, token)
    growth = foreseen(image, found, limit)
    room(growth)
    return image.change(found.changes, say), found


def foreseen(image: Image, found: Plan, limit: Limit) -> Growth:
    """What an image will be.

    Raises:
        DoesNotFit: more than it may become.
        StorageError: its root has too little room and cannot grow.
    """
    growth = image.foreseen(found.changes)
    limit.require(growth.size_bytes, "an image with the agent")
    return growth


def write_card(
    image: Path, target: Path, watch: Watch, bar: Progress, *, card: Disk | None = None, force: bool = False
) -> str:
    """Write an image onto a card or into a file, and read it back; returns the SHA-256 of it.

    Args:
        image: whole.
        target: the card or the file.
        watch: of seconds.
        bar: of progress.
        card: which one somebody said was meant; None: a file.
        force: whether a file may be replaced.

    Raises:
        StorageError, IntegrityError: nothing bootable is left on the card, no file is left.
        UsageError: there is a file of that name; another card was put in.
    """
    if card is not None:
        return _write(image, target, watch, bar, card)
    if writing.is_device(target):
        raise UsageError(f"expected a file for --to, found that {target} is a disk by now; nothing was written")
    if target.exists() and not force:
        raise UsageError(f"expected a new file for --to, found {target}; take another name, or --force")
    with work_folder(target.resolve().parent) as folder:  # it holds a token, too
        part = folder / "card"
        found = _write(image, part, watch, bar)
        part.replace(target)
        sync_folder(target.resolve().parent)
    return found


def _write(image: Path, target: Path, watch: Watch, bar: Progress, card: Disk | None = None) -> str:
    what = f"the card {target}" if card is not None else str(target.name)
    with writing.opened(target) as descriptor, watched(bar.advance, what) as advance:
        if card is not None:
            require_same(descriptor, card)
        with watch("write"):
            bar.say("writing")
            writing.write(image, descriptor, advance)
        with watch("verify"):
            bar.say("reading back")
            sha256 = writing.verify(image, target, advance)
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
