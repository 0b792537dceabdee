"""`edgequilt train`: an adapter from a bundle and data of one's own, without a hub."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.arguments import Arguments
from console.errors import BadData, StorageError, UsageError
from console.progress import Progress, progress
from console.size import size_bytes
from edge.training.wish import OPTIMIZERS, TRAINERS, Wish
from wire.record import plain, read_record

if TYPE_CHECKING:  # numpy and the runtime come once the command line is known to be right
    from edge.training.history import Session
    from edge.training.source import Source
    from wire.bundle import Bundle

CHECKPOINT_S = 20.0
CACHE = "256MiB"


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt train", description="Train an adapter on this machine, without a hub.")
    p.add_argument("bundle", type=Path, metavar="BUNDLE")
    p.add_argument("--data", type=Path, required=True, metavar="FILE", help="rows or a folder of them (docs/data.md)")
    p.add_argument("--out", type=Path, required=True, metavar="ADAPTER", help="the adapter file to write")
    p.add_argument("--trainer", choices=TRAINERS, default="auto", help="(default: auto, by memory, data and graphs)")
    p.add_argument("--kinds", default="lora,bias,head", metavar="lora,bias,head", help="what may learn (default: all)")
    p.add_argument("--rank", type=int, metavar="N", help="of factors (default: what the data support)")
    p.add_argument("--scaling", choices=("lora", "rslora"), default="lora", help="alpha / r, or alpha / sqrt(r)")
    p.add_argument("--adapter", type=Path, metavar="FILE", help="an adapter to go on from")
    p.add_argument("--keep", type=Path, metavar="FILE", help="data whose answers --trainer edit must leave as they are")
    p.add_argument("--bound", type=float, default=0.01, metavar="SHARE", help="of --keep that an edit may change")
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    p.add_argument("--rate", type=float, metavar="X", help="learning rate (default: the trainer's)")
    p.add_argument("--clip", type=float, default=1.0, metavar="NORM", help="of gradients; 0: any (default: 1)")
    p.add_argument("--epochs", type=float, default=3.0, metavar="N", help="passes over the rows (default: 3)")
    p.add_argument("--steps", type=int, metavar="N", help="instead of --epochs")
    p.add_argument("--batch", type=int, default=16, metavar="ROWS", help="of a step (default: 16)")
    p.add_argument("--directions", type=int, default=8, metavar="N", help="of forward-only trainers (default: 8)")
    p.add_argument("--layers", default="*", metavar="PATTERN,...", help="weights whose scales qzo moves (default: all)")
    p.add_argument("--kept-back", type=float, default=0.1, metavar="SHARE", help="rows to judge by (default: 0.1)")
    p.add_argument("--patience", type=int, default=4, metavar="N", help="looks without gain before it stops; 0: never")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument("--force", action="store_true", help="train also what the data do not support")
    p.add_argument("--restart", action="store_true", help="begin anew, whatever an interrupted run left")
    p.add_argument("--checkpoint-every", type=float, default=CHECKPOINT_S, metavar="SECONDS", help="(default: 20)")
    p.add_argument("--cache", default=CACHE, metavar="SIZE", help=f"of activations kept on disk (default: {CACHE})")
    p.add_argument("--no-cache", action="store_true", help="make them in every step")
    p.add_argument("--trust", type=Path, metavar="publisher.pub", help="the publisher to believe")
    p.add_argument("--threads", type=int, default=1, metavar="N")
    p.add_argument("--html", type=Path, metavar="FILE", help="a page with the curves")
    p.add_argument("--json", action="store_true", help="print JSON, and no progress")
    return p


def train(argv: list[str]) -> int:
    """The verb `train`; returns the exit code.

    Raises:
        EdgequiltError: what is wrong with the command line, the bundle or the data.
    """
    options = parser().parse_args(argv)
    wish, cache_bytes = wish_of(options), 0 if options.no_cache else size_bytes(options.cache)
    _writable(options.out, options.html)
    from edge.training.cache import Cache
    from edge.training.conduct import Hooks, Run
    from edge.training.result import lines, report, write
    from edge.training.saver import Saver

    source = _source(options, wish)
    cache = Cache(source.runner, options.out.with_name(f"{options.out.name}.cache"), cache_bytes)
    shown = _Shown(quiet=options.json)
    saver = Saver(_checkpoint(options), options.checkpoint_every, shown.say)
    try:
        ended = cache.told(Run(source, wish, saver, Hooks(shown.say, shown.begin, shown.stepped)).conduct())
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {saver.path}", file=sys.stderr)
        raise
    finally:
        shown.close()
        source.runner.close()
    write(options.out, options.html, ended, saver)
    cache.remove()
    print(json.dumps(report(options.out, ended), indent=1) if options.json else "\n".join(lines(options.out, ended)))
    return 0


def wish_of(options: argparse.Namespace) -> Wish:
    """What the command line asks for.

    Raises:
        UsageError: naming every option that is out of bounds.
    """
    names = {name for name in vars(options) if name in plain(Wish())}
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given["kinds"] = [kind.strip() for kind in options.kinds.split(",")]
    given["layers"] = [pattern.strip() for pattern in options.layers.split(",")]
    try:
        return read_record(Wish, given, "the command line")
    except BadData as problem:
        raise UsageError(str(problem)) from problem


def _source(options: argparse.Namespace, wish: Wish) -> Source:
    from edge.runner import Runner
    from edge.training.source import read_source
    from wire.adapter import read_adapter
    from wire.files import read_bytes

    runner, begun = Runner(_opened(options), options.threads), None
    if options.adapter is not None:
        begun = read_adapter(read_bytes(options.adapter, "an adapter"), str(options.adapter))
    kept_back = 0.0 if wish.trainer == "edit" else wish.kept_back
    return read_source(runner, options.data, kept_back, begun, options.keep)


def _opened(options: argparse.Namespace) -> Bundle:
    from wire.bundle import open_bundle

    trust = None
    if options.trust is not None:
        from wire.envelope import Trust
        from wire.keys import read_public_key

        trust = Trust([read_public_key(options.trust, "publisher")])
    elif not options.json:
        print("the signature is not checked; --trust publisher.pub does", file=sys.stderr)
    return open_bundle(options.bundle, trust)


def _writable(*paths: Path | None) -> None:
    """Whether what a run ends with will have a place: a run is long, and a typing error short.

    Raises:
        StorageError: a folder is not there or cannot be written.
    """
    for path in paths:
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise StorageError(f"expected a file to write at {path}, found no place for it; choose another path")


def _checkpoint(options: argparse.Namespace) -> Path:
    path: Path = options.out.with_name(f"{options.out.name}.checkpoint")
    if options.restart:
        path.unlink(missing_ok=True)
    return path


class _Shown:
    """Sentences on stderr, and a bar of steps beside which the losses stand."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._stack, self._at = quiet, ExitStack(), 0
        self._bar: Progress | None = None

    def close(self) -> None:
        self._stack.close()

    def say(self, words: str) -> None:
        if not self._quiet:
            print(words, file=sys.stderr)

    def begin(self, steps: int) -> None:
        self._bar = self._stack.enter_context(progress("training", steps, quiet=self._quiet))

    def stepped(self, session: Session) -> None:
        if self._bar is None:
            return
        self._bar.advance(session.at - self._at)
        self._at = session.at
        loss = f" loss {session.losses[-1].loss:.4f}" if session.losses else ""
        kept = f", kept back {100 * session.looks[-1].score.share:.1f} % right" if session.looks else ""
        self._bar.say(f"training{loss}{kept}")
