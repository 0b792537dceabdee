"""`edgequilt quant study`: what each number format costs a model, measured on the user's own data."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from console.arguments import Arguments
from console.errors import UsageError
from console.progress import progress
from export.arguments_plan import keeping, sizes
from export.labels import read_labels
from export.stoppable import stoppable
from export.study.data import read_items
from export.study.variant import variants
from wire.files import write_atomic

LIMIT = 256
CALIBRATION = 32  # items


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt quant", description="Number formats of weights: what they cost a model.")
    verbs = p.add_subparsers(dest="verb", required=True)
    s = verbs.add_parser("study", help="a table per format: bytes, SQNR, accuracy or perplexity, agreement, time")
    s.add_argument("model", help="a Hugging Face id, a folder that save_pretrained wrote, FILE.onnx or FILE.py:factory")
    s.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="what it is tried on: .txt .jsonl .csv .tsv .npz"
    )
    s.add_argument("--task", default="", help="as optimum names tasks; for Hugging Face models only")
    s.add_argument("--formats", metavar="A,B,C", help="such as int8,int4+hqq,nf4+nested (default: every one)")
    s.add_argument(
        "--keep", action="append", default=[], metavar="PATTERN=FORMAT", help="of weights in every format; repeat"
    )
    s.add_argument("--labels", type=Path, metavar="FILE", help="names of the model's classes, one per line, in order")
    s.add_argument("--temperatures", default="", metavar="0.1,...", help="of a decoder (default: 0.1 to 1.0)")
    s.add_argument("--sequence", type=int, metavar="TOKENS", help="of a text (default: 64, or what the model can)")
    s.add_argument(
        "--limit",
        type=int,
        default=LIMIT,
        metavar="N",
        help=f"items, or windows of texts, evenly (default: {LIMIT})",
    )
    s.add_argument("--size", action="append", default=[], metavar="NAME=N", help="of a symbolic dimension; repeat")
    s.add_argument("--html", type=Path, metavar="FILE", help="also write a page with plots, which needs nothing else")
    s.add_argument("--json", action="store_true", help="print JSON, and no progress")
    s.set_defaults(context=None)
    return p


def main(argv: list[str]) -> int:
    """`edgequilt quant study MODEL --data FILE ...`; returns the exit code."""
    options = parser().parse_args(argv)
    if options.limit < 1:
        raise UsageError(f"expected a --limit of at least 1 item, found {options.limit}")
    if options.html is not None and not options.html.resolve().parent.is_dir():
        raise UsageError(f"expected --html in a folder that exists, found {options.html}; make {options.html.parent}")
    temperatures, dimensions = _temperatures(options.temperatures), sizes(options)
    formats, keep = variants(options.formats), keeping(options)
    labels = read_labels(options.labels, None) if options.labels else ()
    items = read_items(options.data)
    # everything above is checked before torch is loaded
    from export.prepare import Wanted
    from export.study.request import StudyRequest
    from export.study.study import study
    from export.study.table import as_json, words
    from export.study.temperatures import TEMPERATURES

    request = StudyRequest(
        wanted=Wanted(options.model, options.task, targets="", sizes=dimensions),
        items=items.spread(options.limit),
        data=options.data,
        formats=formats,
        calibration=items.beside(options.limit, CALIBRATION),
        labels=labels,
        keep=keep,
        temperatures=temperatures or TEMPERATURES,
        sequence=options.sequence,
        most_calls=options.limit,
    )
    with (
        stoppable(),
        tempfile.TemporaryDirectory(prefix="edgequilt-study-") as work,
        progress("studying", quiet=options.json) as bar,
    ):
        found = study(request, Path(work), bar)
    # before the page: what took minutes to measure is not lost where that cannot be written
    print(json.dumps(as_json(found), indent=1) if options.json else words(found))
    if options.html is not None:
        from export.study.page import page

        write_atomic(options.html, page(found).encode())
    return 0


def _temperatures(text: str) -> tuple[float, ...]:
    """Numbers above zero with commas between; empty for none.

    Raises:
        UsageError: something else.
    """
    if not text:
        return ()
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (0.0,)
    if not all(0.01 <= t <= 100 for t in found):
        raise UsageError(f"expected --temperatures of 0.01 to 100 with commas between, such as 0.5,1.0, found {text!r}")
    return tuple(dict.fromkeys(found))
