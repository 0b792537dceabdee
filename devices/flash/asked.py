"""What a user asks of `edgequilt flash`, whatever is written, and what he is told of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from console.errors import UsageError
from console.table import mib
from console.toml import read_toml
from devices.flash.plan import Order, Plan
from devices.flash.wishes import Wishes
from devices.profile import Profile
from wire.files import read_bytes
from wire.token import TOKEN_LIMIT

PASSWORD_LIMIT = 4096


def tokens(options: argparse.Namespace) -> list[str]:
    """A token for each card.

    Raises:
        UsageError: there are others than cards.
    """
    if (options.claim is None) == (options.claim_file is None):
        raise UsageError(
            "expected --claim TOKEN or --claim-file FILE, found both or neither; edgequilt hub enroll NAME"
        )
    if options.claim is not None:
        found = [options.claim]
    else:
        text = read_bytes(options.claim_file, "claim tokens", TOKEN_LIMIT * 1024).decode(errors="replace")
        found = text.split()
    if options.count < 1 or len(found) != options.count:
        raise UsageError(f"expected a claim token for each of {options.count} cards, found {len(found)}")
    return found


def wishes(options: argparse.Namespace) -> Wishes:
    """Of the system.

    Raises:
        UsageError: some cannot be met.
        StorageError: a file is not there to be read.
    """
    password = ""
    if options.wifi_password_file is not None:
        if str(options.wifi_password_file) == "-":
            password = sys.stdin.readline()
        else:
            password = read_bytes(options.wifi_password_file, "a Wi-Fi password", PASSWORD_LIMIT).decode(
                errors="replace"
            )
    keys = [read_bytes(path, "a public SSH key", PASSWORD_LIMIT).decode(errors="replace") for path in options.ssh_key]
    return Wishes(
        options.hostname,
        options.user,
        tuple(line.strip() for key in keys for line in key.splitlines() if line.strip()),
        _ssid(options),
        password.rstrip("\r\n"),
        options.wifi_country,
        options.timezone,
        not options.no_sudo,
        options.watchdog_s,
    )


def _ssid(options: argparse.Namespace) -> str:
    """As a text, or its bytes as hexadecimal digits, for names that cannot be typed.

    Raises:
        UsageError: both are given, or other digits.
    """
    if not options.wifi_ssid_hex:
        return str(options.wifi_ssid)
    if options.wifi_ssid:
        raise UsageError("expected --wifi-ssid or --wifi-ssid-hex, found both; leave one out")
    try:
        return bytes.fromhex(options.wifi_ssid_hex).decode("utf-8", "surrogateescape")
    except ValueError as error:
        raise UsageError(
            f"expected pairs of hexadecimal digits for --wifi-ssid-hex, found {options.wifi_ssid_hex!r}"
        ) from error


def order(options: argparse.Namespace, image: Path, profile: Profile) -> Order:
    """All that is asked, for an image or a root file system.

    Raises:
        EdgequiltError: see `wishes`; the file of `--settings` is none.
    """
    tables = {} if options.settings is None else read_toml(options.settings)
    carried = (options.bundle, options.data, options.wheelhouse)
    return Order(image, profile, wishes(options), options.hub, *carried, tables)


def told(found: Plan, what: str) -> str:
    """A plan for people: what it is for, what is placed, and what they should know."""
    root, boot = found.changes.root, found.changes.boot
    lines = [
        f"{what}: {found.title} ({found.target})",
        f"device {found.device}: release {found.release.version}, {mib(found.release.size_bytes)}",
        f"placed: {len(root.files)} files and {len(root.links)} links in the root, {len(boot.files)} files in FAT",
    ]
    return "\n".join([*lines, *found.changes.said])
