"""`edgequilt hub backup | restore`: a hub's folder as one file, and back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.progress import progress
from console.table import many, mib
from hub.verbs.common import add_verb, say


def parse(verbs: Any) -> None:
    """Their options."""
    backup = add_verb(
        verbs,
        "backup",
        _backup,
        "write all that the hub must not lose into one file; it may be running",
        of_model=False,
    )
    backup.add_argument("file", type=Path)
    backup.add_argument(
        "--with-keys", action="store_true", help="the hub's secret key too: whoever reads it is the hub"
    )
    backup.add_argument(
        "--with-bundles", action="store_true", help="the files of bundles and of releases of the agent, too"
    )
    restore = verbs.add_parser("restore", help="make a hub's folder of a backup")
    restore.add_argument("file", type=Path)
    restore.add_argument("folder", type=Path, help="must not be there, or be empty")
    restore.add_argument("--json", action="store_true")
    restore.set_defaults(run=_restore)


def _backup(options: argparse.Namespace) -> int:
    from hub.store.backup import back_up

    with progress("backup", unit="bytes", quiet=options.json) as bar:
        found = back_up(
            options.hub, options.file, keys=options.with_keys, bundles=options.with_bundles, advance=bar.advance
        )
    lines = [f"{found['files']} files, {mib(found['bytes'])}, are in {found['out']}"]
    if found["database"]:
        dump = f"pg_dump --format=custom --file=ledger.dump '{found['database']}'"
        lines.append(f"the ledger is not in it, but in PostgreSQL; dump it before each backup: {dump}")
    if found["hardware"]:
        tokens = ", ".join(found["hardware"])
        lines.append(f"secret keys are in a hardware module ({tokens}) and in no backup: keep a second token")
    elif not found["keys"]:
        lines.append(f"secret keys are not in it: keep {options.hub / 'hub.key'} elsewhere, or use --with-keys")
    if found["bundle_files_left_out"]:
        count, size = found["bundle_files_left_out"], mib(found["bundle_bytes"])
        lines.append(
            f"{count} files of bundles ({size}) are not in it: add them again after a restore, or --with-bundles"
        )
    if found["left_out"]:
        lines.append(f"not in it: {', '.join(found['left_out'])}")
    return say(options, found, "\n".join(lines))


def _restore(options: argparse.Namespace) -> int:
    from hub.store.restore import restore

    with progress("restore", unit="bytes", quiet=options.json) as bar:
        found = restore(options.file, options.folder, advance=bar.advance)
    holds = f"{many(found['devices'], 'device')}, {many(found['versions'], 'version')}"
    fleet = f"{found['hub']} holds the hub of fleet {found['fleet']}"
    lines = [f"{fleet}: {holds}; rounds go on from {found['next_round']}"]
    if not found["key"]:
        lines.append(f"the backup has no secret key: put hub.key into {found['hub']} before you start it")
    if found["bundle_files_missing"]:
        count = found["bundle_files_missing"]
        lines.append(f"{count} files of bundles are not in it: add the bundles again with `edgequilt hub add`")
    return say(options, found, "\n".join(lines))
