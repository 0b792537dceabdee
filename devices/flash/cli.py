"""`edgequilt flash`: an image with an agent in it, onto a card or into a file."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from console.errors import UsageError
from console.progress import progress
from console.size import size_bytes
from console.table import mib
from devices.flash import asked, space, staging, tools, writing
from devices.flash.cli_rootfs import prepare_rootfs
from devices.flash.disks import Disk, disks, find_disk, refuse
from devices.flash.flashing import SECRET_FILES, Watch, copied, foreseen, prepare, reported, write_card
from devices.flash.foretold import foretell
from devices.flash.image import open_image
from devices.flash.limit import Limit
from devices.flash.listing import listed
from devices.flash.parser import parser
from devices.flash.plan import Order, plan, require_order
from devices.flash.report import path_of, placed
from devices.flash.room import Growth
from devices.flash.work import work_folder
from devices.profile import Profile, load, require_agent


def flash(argv: list[str]) -> int:
    """Write one card or several; returns the exit code."""
    with _terminable():
        return _flash(argv)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does: nothing is left behind, least of all a token."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _flash(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    if sys.platform != "linux":
        raise UsageError(
            f"expected Linux to write cards, found {sys.platform}; exporting works here, flashing does not"
        )
    if options.list:
        print(listed(disks(), as_json=options.json))
        return 0
    needed = ("device",) if options.rootfs is not None else ("device", "image", "to")
    absent = [name for name in needed if getattr(options, name) is None]
    if absent:
        raise UsageError(
            f"expected {', '.join(f'--{name}' for name in absent)}, found none; see edgequilt flash --help"
        )
    profile = load(options.device, options.profiles)
    require_agent(profile)
    if options.rootfs is not None:
        return prepare_rootfs(options, profile)
    return _flash_image(options, profile)


def _flash_image(options: argparse.Namespace, profile: Profile) -> int:
    """What cannot be done is refused before the image is unpacked, which takes minutes."""
    tokens = asked.tokens(options)
    order = asked.order(options, options.image, profile)
    require_order(order, tokens)
    limit = _require_target(options, len(tokens))
    told = foretell(options.image, limit)
    tools.require([*told.tools, *(["cp"] if len(tokens) > 1 else [])])
    with work_folder(_near(options)) as work:
        space.before_unpacking(work, _beside(options), told.size_bytes, len(tokens))
        total = options.image.stat().st_size
        with progress("unpacking", total, unit="bytes", quiet=options.json) as bar:
            staged = staging.stage(options.image, work / "image", limit, bar.advance, options.sha256)
        run = _Run(options, order, staged, len(tokens), limit)
        if options.dry_run:
            return run.dry(tokens[0])
        for number, token in enumerate(tokens):
            run.card(token, number)
    return 0


# ------------------------------------------------------------------------------------------------ where to


def _require_target(options: argparse.Namespace, cards: int) -> Limit:
    """Refuse what cannot be written; returns how large the image may become.

    Raises:
        UsageError: a disk that may not be written, several cards into one file, a file that is there, several cards
            and nobody who changes them.
    """
    largest = Limit(size_bytes(options.max_size))
    if cards > 1 and (options.yes or not sys.stdin.isatty()):
        raise UsageError("expected somebody to change the cards, found --yes or no terminal; leave --count out")
    if writing.is_device(options.to):
        options.to = options.to.resolve()  # by-id and by-path are links to it
    if _is_card(options.to):
        disk = find_disk(str(options.to), disks())
        refuse(disk, staging.size_of(options.image) or 0, largest.bytes, fixed=options.fixed)
        return Limit(disk.size_bytes, f"the card {disk.path}")
    if cards > 1:
        raise UsageError("expected a card for --count, found a file; write files one by one")
    if options.to.exists() and not options.force:
        raise UsageError(f"expected a new file for --to, found {options.to}; take another name, or --force")
    return largest


def _is_card(to: Path) -> bool:
    """Whether a disk is meant, also one that is not there."""
    return writing.is_device(to) or str(to).startswith("/dev/")


def _beside(options: argparse.Namespace) -> Path | None:
    """The folder of a file that is made; None for a card."""
    return None if _is_card(options.to) else Path(options.to.resolve().parent)


def _near(options: argparse.Namespace) -> Path | None:
    """Where the image is unpacked: on the disk of a file that is made, which is given its place in the end."""
    return _beside(options) if options.work is None else Path(options.work)


def _asked(disk: Disk, options: argparse.Namespace) -> None:
    """Let somebody say that this card is meant.

    Raises:
        UsageError: it is not, or nobody is there.
    """
    wanted = disk.serial or str(disk.size_bytes)
    if options.yes:
        given = options.serial
    elif sys.stdin.isatty():
        what = "serial" if disk.serial else "size in bytes (it has no serial)"
        print(listed([disk], as_json=False), file=sys.stderr)
        print(f"everything on it will be gone; type its {what} to go on: ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline().strip()
    else:
        raise UsageError(f"expected --yes --serial S for {disk.path}, found nobody to ask; see edgequilt flash --list")
    if given != wanted:
        raise UsageError(f"expected the serial {wanted} of {disk.path}, found {given!r}; nothing was written")


# ------------------------------------------------------------------------------------------------ one card


@dataclass(frozen=True)
class _Run:
    """What all cards of one call share.

    Attributes:
        options, order: as they were asked for.
        staged: the image, unpacked once.
        cards: how many.
        limit: most that an image may become.
    """

    options: argparse.Namespace
    order: Order
    staged: staging.Staged
    cards: int
    limit: Limit

    def card(self, token: str, number: int) -> None:
        """Make one: its image, then the card, then its report."""
        options, watch, order = self.options, Watch(), self._named(number)
        last = number + 1 == self.cards  # it needs no copy: nobody wants the image as it was any more
        own = self.staged.path if last else self.staged.path.with_name(f"card{number}")
        try:
            if not last:
                self._room(None)
                copied(self.staged.path, own)
            with watch("inject"), progress("placing", 1, quiet=options.json) as bar:
                image, found = prepare(own, order, token, self.limit, bar.say, self._room)
                bar.advance()
            size = image.path.stat().st_size
            to = self._target(size, number)
            disk = to if isinstance(to, Disk) else None
            with progress("writing", 2 * size, unit="bytes", quiet=options.json) as bar:  # written, read back
                sha256 = write_card(image.path, options.to, watch, bar, card=disk, force=options.force)
            report = reported(order, self.staged, image, found, to, sha256, watch)
        finally:
            own.unlink(missing_ok=True)
        path = path_of(options.report, number, self.cards)
        report.write(path)
        if options.json:
            print(json.dumps(asdict(report), indent=1))
        else:
            end = f"written to {options.to}, read back and right; {path} says what"
            print(asked.told(found, options.image.name), end, sep="\n")

    def dry(self, token: str) -> int:
        """Say what would be written; returns the exit code."""
        image = open_image(self.staged.path)
        found = plan(image.seen, self._named(0), token)
        growth = foreseen(image, found, self.limit)
        if self.options.json:
            told = {"system": found.system.name, "title": found.title, "target": str(found.target)}
            more = {"device": found.device, "release": found.release.version, "said": list(found.changes.said)}
            sizes = {"size_bytes": growth.size_bytes, "root_grows_bytes": growth.more_bytes}
            print(json.dumps({**told, **more, **sizes, "placed": placed(found.changes, SECRET_FILES)}, indent=1))
        else:
            grows = f" (its root grows by {mib(growth.more_bytes)})" if growth.more_bytes else ""
            size = f"the image becomes {mib(growth.size_bytes)}{grows}"
            print(asked.told(found, self.options.image.name), size, "nothing was written", sep="\n")
        return 0

    def _named(self, number: int) -> Order:
        name = self.order.wishes.hostname
        if self.cards == 1 or not name:
            return self.order
        return replace(self.order, wishes=replace(self.order.wishes, hostname=f"{name}-{number + 1}"))

    def _room(self, growth: Growth | None) -> None:
        """Whether there is room for a copy, before it is made, or for what an image becomes."""
        at, beside = self.staged.path, _beside(self.options)
        if growth is None:
            space.before_placing(at.parent, None, at, grows=0, size=0, copied=True)
        else:
            grows, size = growth.more_bytes, growth.size_bytes
            space.before_placing(at.parent, beside, at, grows=grows, size=size, copied=False)

    def _target(self, size: int, number: int) -> Disk | Path:
        """The card, when it is there, fits and is the one that is meant."""
        options = self.options
        if not _is_card(options.to):
            return Path(options.to)
        if number and sys.stdin.isatty():
            print(f"put in card {number + 1} of {self.cards}, then press enter ", end="", file=sys.stderr, flush=True)
            sys.stdin.readline()
        disk = find_disk(str(options.to), disks())
        refuse(disk, size, size_bytes(options.max_size), fixed=options.fixed)
        _asked(disk, options)
        return disk
