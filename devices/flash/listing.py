"""Disks as `edgequilt flash --list` shows them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from console.errors import UsageError
from console.size import size_bytes
from console.table import mib, table
from devices.flash.disks import Disk, refuse
from devices.flash.parser import LARGEST


def listed(found: list[Disk], *, as_json: bool) -> str:
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
