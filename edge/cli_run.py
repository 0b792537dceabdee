"""`edgequilt run`: one answer from a bundle, or from all bundles of a chain, on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.arguments import Arguments
from console.errors import UsageError
from edge.arrays import checked, read_all, write_arrays
from edge.encode import FIELDS, open_tokenizer
from edge.generate import Answer, generate
from edge.pieces import Pieces
from edge.put_through import put_through
from edge.steps import Steps
from edge.trusted import open_named
from wire.adapter import read_adapter
from wire.bundle import Bundle
from wire.files import read_bytes
from wire.manifest import Generate

WORDS = {
    "end": "the model ended its answer",
    "length": "stopped at --max-new-tokens",
    "context": "stopped at the end of the context",
}


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt run", description="Run a bundle, or all stages of a chain, on this machine.")
    p.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="a bundle, or every stage of one chain")
    p.add_argument("--prompt", metavar="TEXT", help="a text to go on from, to answer or to label")
    p.add_argument(
        "--input",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="arrays (.npz, .json), a picture or a WAV file; repeat",
    )
    p.add_argument("--steps", action="store_true", help="arrays have one more axis in front: steps, states go along")
    p.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="of a text (default: 64)")
    p.add_argument("--adapter", type=Path, metavar="FILE", help="an adapter of the whole model (default: none)")
    p.add_argument("--trust", type=Path, metavar="publisher.pub", help="the publisher to believe")
    p.add_argument("--threads", type=int, default=1, metavar="N")
    p.add_argument("--out", type=Path, metavar="FILE.npz", help="write the outputs there")
    p.add_argument("--json", action="store_true", help="print JSON")
    return p


def main(argv: list[str]) -> int:
    """The verb `run`; returns the exit code.

    Raises:
        EdgequiltError: what is wrong with the command line, the bundles or the input.
    """
    options = parser().parse_args(argv)
    if options.prompt is None and not options.input:
        raise UsageError("expected --prompt TEXT or --input FILE, found neither; say what to run on")
    if options.max_new_tokens < 1:
        raise UsageError(f"expected --max-new-tokens of at least 1, found {options.max_new_tokens}")
    adapter = None
    if options.adapter is not None:
        adapter = read_adapter(read_bytes(options.adapter, "an adapter"), str(options.adapter))
    steps = Steps(open_named(options.bundles, options.trust, quiet=options.json), options.threads, adapter=adapter)
    try:
        record = steps.manifest.generate
        return put_through(steps, options) if record is None else _text(steps, record, options)
    finally:
        steps.close()


def _text(steps: Steps, record: Generate, options: argparse.Namespace) -> int:
    """Generate; pieces of text are shown as they come."""
    bundle = steps.bundles[0]
    tokenizer = _tokenizer(bundle)
    prompt, feeds = _asked(steps, record, tokenizer, options)
    pieces = None
    if tokenizer is not None and not options.json:
        before = prompt if record.kind == "cached" else ()
        pieces = Pieces(lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)), before)
    answer = generate(steps, prompt, options.max_new_tokens, feeds, lambda token: _show(pieces, token))
    if pieces is not None:
        print(pieces.rest())
    _report(answer, tokenizer, options)
    return 0


def _show(pieces: Pieces | None, token: int) -> None:
    if pieces is not None:
        print(pieces.add(token), end="", flush=True)


def _report(answer: Answer, tokenizer: Any, options: argparse.Namespace) -> None:
    tokens = list(answer.tokens)
    if options.out is not None:
        write_arrays(options.out, {"tokens": np.array(tokens, np.int64)})
    if options.json:
        text = None if tokenizer is None else tokenizer.decode(tokens, skip_special_tokens=True)
        print(json.dumps({"text": text, "tokens": tokens, "reason": answer.reason}, ensure_ascii=False))
        return
    if tokenizer is None:
        print(" ".join(map(str, tokens)))
    print(f"{len(tokens)} tokens; {WORDS[answer.reason]}", file=sys.stderr)


def _tokenizer(bundle: Bundle) -> Any:
    """The bundle's tokenizer; None where it has none."""
    files = [name for name in bundle.manifest.preprocess.files if name.endswith("tokenizer.json")]
    return open_tokenizer(bundle.path(files[0])) if files else None


def _asked(
    steps: Steps, record: Generate, tokenizer: Any, options: argparse.Namespace
) -> tuple[list[int], dict[str, NDArray[Any]]]:
    """The tokens to go on from, and what else the model reads.

    Raises:
        UsageError: a prompt where the model takes none, or none where it takes one.
    """
    own = {record.tokens, record.mask, record.positions}
    others = [tensor for tensor in steps.inputs if tensor.name not in own]
    given = read_all(options.input)
    prompt = [int(token) for token in given.pop(record.tokens, np.zeros(0)).ravel()]
    if options.prompt is None:
        return prompt, checked(given, others)
    if tokenizer is None:
        raise UsageError(
            f"expected --input FILE with {record.tokens}, found --prompt for a bundle without a tokenizer; export the "
            "model with its tokenizer, or give token ids"
        )
    if not others:
        return [int(token) for token in tokenizer.encode(options.prompt).ids], {}
    if any(tensor.name not in FIELDS for tensor in others):
        names = ", ".join(tensor.name for tensor in others)
        raise UsageError(f"expected --input FILE with {names} for this bundle, found --prompt; it does not read text")
    from edge.text import Texts

    manifest = steps.manifest
    texts = Texts(steps.bundles[0].folder, manifest.preprocess, others, frugal=False)
    return prompt, texts.prepare([options.prompt], manifest.buckets[0]).take([0])
