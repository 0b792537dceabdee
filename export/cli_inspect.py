"""`edgequilt inspect`: what bundles hold, in words, as JSON, or as a page."""

from __future__ import annotations

import json
from pathlib import Path

from console.arguments import Arguments
from export.summary import words
from wire.bundle import open_bundle
from wire.record import plain


def inspect(argv: list[str]) -> int:
    """`edgequilt inspect BUNDLE`: its manifest in words; files are checked, the signature is not."""
    p = Arguments(prog="edgequilt inspect", description="Say what a bundle holds.")
    p.add_argument("bundle", type=Path)
    p.add_argument("--json", action="store_true", help="print the manifest")
    options = p.parse_args(argv)
    bundle = open_bundle(options.bundle, trust=None)
    print(json.dumps(plain(bundle.manifest), indent=1) if options.json else words(bundle))
    return 0
