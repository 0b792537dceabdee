"""`edgequilt inspect`: what bundles hold, in words, as JSON, or as a page."""

from __future__ import annotations

import json
from pathlib import Path

from console.arguments import Arguments
from export.report.account import accounts, as_json
from export.report.words import words
from wire.bundle import open_bundle
from wire.files import write_atomic


def inspect(argv: list[str]) -> int:
    """`edgequilt inspect BUNDLE ...`: words, `--json`, or `--html FILE`; files are checked, the signature is not."""
    options = _parser().parse_args(argv)
    told = accounts([open_bundle(folder, trust=None) for folder in options.bundle])
    if options.html is not None:
        # the picture needs an ONNX library; words and JSON need none
        from export.report.page import page

        write_atomic(options.html, page(told).encode())
    if options.json:
        mappings = [as_json(account) for account in told]
        print(json.dumps(mappings[0] if len(mappings) == 1 else mappings, indent=1))
    elif options.html is None:
        print(words(told))
    else:
        print(f"wrote {options.html}")
    return 0


def _parser() -> Arguments:
    p = Arguments(
        prog="edgequilt inspect", description="Say what bundles hold: boards of one export, stages of a chain."
    )
    p.add_argument("bundle", type=Path, nargs="+")
    p.add_argument("--json", action="store_true", help="print the manifest and what follows from it; a list if several")
    p.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures, which needs nothing else")
    return p
