"""`edgequilt flash`: an image with an agent in it, onto a card or into a file."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from console.arguments import Arguments
from console.errors import StorageError, UsageError
from console.progress import progress
from console.size import size_bytes
from console.table import mib, table
from devices.flash import asked, staging, writing
from devices.flash.cli_rootfs import prepare_rootfs
from devices.flash.disks import Disk, disks, find_disk, refuse
from devices.flash.flashing import Order, Plan, Watch, copied, plan, prepare, reported, write_card
from devices.flash.image import open_image
from devices.flash.report import NAME, placed
from devices.profile import load, require_agent

LARGEST = "256GiB"


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
    options = _parser().parse_args(argv)
    if sys.platform != "linux":
        raise UsageError(
            f"expected Linux to write cards, found {sys.platform}; exporting works here, flashing does not"
        )
    if options.list:
        print(_listed(disks(), as_json=options.json))
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
    tokens, largest = asked.tokens(options), size_bytes(options.max_size)
    order = asked.order(options, options.image, profile)
    size = staging.size_of(options.image)
    _require_target(options, len(tokens), size or 0, largest)
    with _work(options) as work:
        staged = _staged(options, Path(work), size, largest)
        if options.dry_run:
            return _dry(plan(open_image(staged.path).seen, order, tokens[0]), options)
        for number, token in enumerate(tokens):
            _card(options, order, staged, token, number, len(tokens), largest)
    return 0


def _require_target(options: argparse.Namespace, cards: int, size: int, largest: int) -> None:
    """Refuse what cannot be written before anything is unpacked.

    Raises:
        UsageError: a disk that may not be written, several cards into one file, a file that is there, several cards
            and nobody who changes them.
    """
    if cards > 1 and (options.yes or not sys.stdin.isatty()):
        raise UsageError("expected somebody to change the cards, found --yes or no terminal; leave --count out")
    if writing.is_device(options.to):
        options.to = options.to.resolve()  # by-id and by-path are links to it
    if _is_card(options.to):
        refuse(find_disk(str(options.to), disks()), size, largest, fixed=options.fixed)
    elif cards > 1:
        raise UsageError("expected a card for --count, found a file; write files one by one")
    elif options.to.exists() and not options.force:
        raise UsageError(f"expected a new file for --to, found {options.to}; take another name, or --force")


def _is_card(to: Path) -> bool:
    """Whether a disk is meant, also one that is not there."""
    return writing.is_device(to) or str(to).startswith("/dev/")


def _parser() -> Arguments:
    p = Arguments(
        prog="edgequilt flash",
        description="Put an agent into a system's image and write it onto a card (docs/flash.md).",
    )
    p.add_argument("--device", metavar="NAME", help="the kind of board (edgequilt devices list)")
    p.add_argument("--image", type=Path, metavar="FILE", help="of the whole card: raw, .xz, .gz, .bz2, .zst or .zip")
    p.add_argument("--sha256", metavar="HEX", help="what the image's digest has to be")
    p.add_argument("--to", type=Path, metavar="/dev/sdX|out.img", help="a card, or a file to make")
    p.add_argument(
        "--rootfs", type=Path, metavar="DIR", help="instead of --image and --to: a root file system's folder"
    )
    p.add_argument("--list", action="store_true", help="show the cards of this machine")
    p.add_argument("--hub", metavar="URL", help="where the board reaches the hub (default: as the token says)")
    p.add_argument("--claim", metavar="TOKEN", help="of edgequilt hub enroll; others see it in the list of processes")
    p.add_argument(
        "--claim-file", type=Path, metavar="FILE", help="where the token is; a line for each card of --count"
    )
    p.add_argument("--hostname", default="", help="of the board; with --count a number follows")
    p.add_argument("--user", default="edgequilt", help="who may log in with --ssh-key (default: edgequilt)")
    p.add_argument("--ssh-key", action="append", default=[], type=Path, metavar="FILE.pub", help="repeat for more")
    p.add_argument(
        "--no-sudo", action="store_true", help="--user may not do everything (he has no password to ask for)"
    )
    p.add_argument("--wifi-ssid", default="", metavar="NAME")
    p.add_argument("--wifi-ssid-hex", default="", metavar="HEX", help="instead: its bytes, where it cannot be typed")
    p.add_argument("--wifi-password-file", type=Path, metavar="FILE", help="- for standard input")
    p.add_argument("--wifi-country", default="", metavar="DE", help="whose rules for radio hold")
    p.add_argument("--timezone", default="", metavar="Europe/Berlin")
    p.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle that travels along")
    p.add_argument("--data", type=Path, metavar="DIR", help="samples to learn from that travel along")
    p.add_argument("--settings", type=Path, metavar="FILE", help="TOML with more entries for agent.toml")
    p.add_argument("--profiles", type=Path, metavar="FOLDER", help="a folder with profiles of your own")
    p.add_argument("--wheelhouse", type=Path, metavar="DIR", help="wheels to take, without the network")
    p.add_argument("--count", type=int, default=1, metavar="N", help="cards, one after the other")
    p.add_argument("--max-size", default=LARGEST, metavar="SIZE", help=f"refuse larger disks (default: {LARGEST})")
    p.add_argument("--fixed", action="store_true", help="the disk is meant although it is built in")
    p.add_argument("--yes", action="store_true", help="do not ask; --serial says which card is meant")
    p.add_argument("--serial", default="", metavar="S", help="of the card, with --yes (edgequilt flash --list)")
    p.add_argument("--force", action="store_true", help="replace a file")
    p.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    p.add_argument(
        "--work", type=Path, metavar="DIR", help="where the image is unpacked (default: beside --to, or TMPDIR)"
    )
    p.add_argument("--report", type=Path, metavar="FILE", help=f"what was written (default: {NAME} here)")
    p.add_argument("--json", action="store_true", help="print the report, and no progress")
    return p


# ------------------------------------------------------------------------------------------------ what is asked


def _work(options: argparse.Namespace) -> tempfile.TemporaryDirectory[str]:
    """A folder that goes whatever happens; on the disk of a file that is made, so that there is room."""
    near = options.work
    if near is None and not writing.is_device(options.to):
        near = options.to.resolve().parent
    try:
        return tempfile.TemporaryDirectory(prefix=".edgequilt-flash-", dir=near)
    except OSError as error:
        raise StorageError(f"expected to unpack in {near}, found: {error.strerror}; say --work DIR") from error


def _staged(options: argparse.Namespace, work: Path, size: int | None, largest: int) -> staging.Staged:
    free = staging.free_bytes(work)
    if size is not None and size > free:
        raise StorageError(f"expected {mib(size)} free to unpack the image, found {mib(free)}; say --work DIR")
    total = options.image.stat().st_size
    with progress("unpacking", total, unit="bytes", quiet=options.json) as bar:
        return staging.stage(options.image, work / "image", largest, bar.advance, options.sha256)


# ------------------------------------------------------------------------------------------------ one card


def _card(
    options: argparse.Namespace, order: Order, staged: staging.Staged, token: str, number: int, of: int, largest: int
) -> None:
    watch = Watch()
    if of > 1:
        name = order.wishes.hostname
        order = replace(order, wishes=replace(order.wishes, hostname=f"{name}-{number + 1}" if name else ""))
    own = staged.path.with_name(f"card{number}")
    try:
        copied(staged.path, own)
        with watch("inject"), progress("placing", 1, quiet=options.json) as bar:
            image, found = prepare(own, order, token, bar.say)
            bar.advance()
        to = _target(options, image.path.stat().st_size, number, of, largest)
        twice = 2 * image.path.stat().st_size  # written, read back
        with progress("writing", twice, unit="bytes", quiet=options.json) as bar:
            sha256 = write_card(image.path, options.to, watch, bar, card=isinstance(to, Disk), force=options.force)
        report = reported(order, staged, image, found, to, sha256, watch)
    finally:
        own.unlink(missing_ok=True)
    path = options.report or Path(NAME if of == 1 else f"flash-report-{number + 1}.json")
    report.write(path)
    if options.json:
        print(json.dumps(asdict(report), indent=1))
    else:
        print(
            asked.told(found, options.image.name),
            f"written to {options.to}, read back and right; {path} says what",
            sep="\n",
        )


def _target(options: argparse.Namespace, size: int, number: int, of: int, largest: int) -> Disk | Path:
    """The card, when it is there, fits and is the one that is meant."""
    if not _is_card(options.to):
        return Path(options.to)
    if of > 1 and number and sys.stdin.isatty():
        input(f"put in card {number + 1} of {of}, then press enter ")
    disk = find_disk(str(options.to), disks())
    refuse(disk, size, largest, fixed=options.fixed)
    wanted = disk.serial or str(disk.size_bytes)
    if options.yes:
        given = options.serial
    elif sys.stdin.isatty():
        what = "serial" if disk.serial else "size in bytes (it has no serial)"
        print(_listed([disk], as_json=False), file=sys.stderr)
        print(f"everything on it will be gone; type its {what} to go on: ", end="", file=sys.stderr, flush=True)
        given = sys.stdin.readline().strip()
    else:
        raise UsageError(f"expected --yes --serial S for {disk.path}, found nobody to ask; see edgequilt flash --list")
    if given != wanted:
        raise UsageError(f"expected the serial {wanted} of {disk.path}, found {given!r}; nothing was written")
    return disk


def _dry(found: Plan, options: argparse.Namespace) -> int:
    if options.json:
        from devices.flash.flashing import SECRET_FILES

        told = {"system": found.system.name, "title": found.title, "target": str(found.target)}
        more = {"device": found.device, "release": found.release.version, "said": list(found.changes.said)}
        print(json.dumps({**told, **more, "placed": placed(found.changes, SECRET_FILES)}, indent=1))
    else:
        print(asked.told(found, options.image.name), "nothing was written", sep="\n")
    return 0


def _listed(found: list[Disk], *, as_json: bool) -> str:
    """Cards first; disks that hold this system are shown, too, so that nobody wonders."""
    ordered = sorted(found, key=lambda disk: (not disk.card, disk.path))
    if as_json:
        return json.dumps([_mapping(disk) for disk in ordered], indent=1)
    rows = [
        (
            disk.path,
            disk.name or "-",
            mib(disk.size_bytes),
            disk.port or "-",
            disk.serial or "-",
            ", ".join(disk.labels) or "-",
            _state(disk),
        )
        for disk in ordered
    ]
    return table(("disk", "name", "size", "port", "serial", "labels", "may be written"), rows)


def _state(disk: Disk) -> str:
    try:
        refuse(disk, 0, size_bytes(LARGEST))
    except UsageError as refusal:
        return f"no: {str(refusal).partition('): ')[2]}"
    return "yes"


def _mapping(disk: Disk) -> dict[str, Any]:
    found: dict[str, Any] = asdict(disk)
    with suppress(UsageError):
        refuse(disk, 0, size_bytes(LARGEST))
        return {**found, "writable": True}
    return {**found, "writable": False}
