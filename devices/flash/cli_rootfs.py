"""`edgequilt flash --rootfs DIR`: an agent into a root file system that another program writes onto a board."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from console.errors import BadData, UsageError
from console.progress import progress
from devices.flash import asked
from devices.flash.changes import Seen
from devices.flash.flashing import Watch, told
from devices.flash.plan import Order, Plan, plan
from devices.flash.report import NAME, Report
from devices.flash.rootfs import Folder, require_folder
from devices.profile import Profile

OTHERS = ("image", "to", "sha256", "serial")  # of a card
JETSON = "jetson"


def prepare_rootfs(options: argparse.Namespace, profile: Profile) -> int:
    """Write what a card would hold into a folder; returns the exit code.

    Raises:
        UsageError: options of a card were given, it is no folder for this, or root does not run this.
        EdgequiltError: see `devices.flash.flashing.plan` and `devices.flash.rootfs.Folder.inject`.
    """
    given = [f"--{name}" for name in OTHERS if getattr(options, name)]
    given += ["--count"] if options.count != 1 else []
    if given:
        raise UsageError(f"expected --rootfs without {', '.join(given)}, which are for cards; leave one out")
    (token,) = asked.tokens(options)
    folder, watch = require_folder(options.rootfs), Watch()
    order = asked.order(options, options.rootfs, profile)
    with watch("inject"), progress("placing", 1, quiet=options.json) as bar:
        found = plan(Seen(folder), order, token)
        _fits(found, profile, folder)
        if not options.dry_run:
            folder.inject(found.changes.root)
        bar.advance()
    report, path = _reported(order, found, folder, watch), options.report or Path(NAME)
    if not options.dry_run:
        report.write(path)
    if options.json:
        print(json.dumps(asdict(report), indent=1))
    else:
        end = "nothing was written" if options.dry_run else f"written into {folder.path}; {path} says what"
        print(asked.told(found, str(folder.path)), end, sep="\n")
    return 0


def _fits(found: Plan, profile: Profile, folder: Folder) -> None:
    """NVIDIA's packages set the wizard up: what is written before them would not skip it.

    Raises:
        BadData: it is not the root file system of such a board yet.
    """
    if profile.id.startswith(JETSON) and found.system.name != "jetpack":
        raise BadData(
            f"expected /etc/nv_tegra_release in {folder.path}, found {found.title} without it; run NVIDIA's "
            "apply_binaries.sh first"
        )


def _reported(order: Order, found: Plan, folder: Folder, watch: Watch) -> Report:
    """No image, so no digest of one."""
    path = str(folder.path)
    return told(order, found, (path, ""), {"path": path}, (found.release.size_bytes, ""), watch)
