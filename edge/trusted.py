"""Bundles that a command line names, checked as it asks for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wire.bundle import Bundle, open_bundle


def open_named(folders: Sequence[Path], publisher: Path | None, *, quiet: bool = False) -> list[Bundle]:
    """Open bundles; without a publisher's key their signature is not checked, which is said unless `quiet`.

    Raises:
        SignatureError: another publisher signed one.
        BadData, IntegrityError: one is not what its manifest says.
    """
    trust = None
    if publisher is not None:
        from wire.envelope import Trust
        from wire.keys import read_public_key

        trust = Trust([read_public_key(publisher, "publisher")])
    elif not quiet:
        print("the signature is not checked; --trust publisher.pub does", file=sys.stderr)
    return [open_bundle(folder, trust) for folder in folders]
