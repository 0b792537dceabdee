"""The words of `edgequilt flash`."""

from __future__ import annotations

from pathlib import Path

from console.arguments import Arguments
from devices.flash.report import NAME
from devices.flash.wishes import WATCHDOG_S

LARGEST = "256GiB"


def parser() -> Arguments:
    """All of them, with what `--help` says."""
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
    p.add_argument(
        "--watchdog-s",
        type=int,
        default=WATCHDOG_S,
        metavar="N",
        help=f"a board that hangs so long starts again; 0: it does not (default: {WATCHDOG_S})",
    )
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
    p.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help=f"what was written (default: {NAME} here; with --count a number follows)",
    )
    p.add_argument("--json", action="store_true", help="print the report, and no progress")
    return p
