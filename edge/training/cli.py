"""`edgequilt train`: an adapter from a bundle and data of one's own, without a hub."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from console.errors import StorageError, UsageError
from console.progress import Progress, progress
from console.size import size_bytes
from edge.training.arguments import parser, wish_of
from edge.training.wish import Wish

if TYPE_CHECKING:  # numpy and the runtime come once the command line is known to be right
    from edge.data.row import Row
    from edge.training.earlier import Earlier
    from edge.training.history import Session
    from edge.training.source import Source
    from wire.bundle import Bundle


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
    earlier, own = _earlier(options, source), source.data.train
    if earlier is not None:
        source = replace(source, data=earlier.into(source.data))
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
    if earlier is not None:
        _offer(earlier, source, own, shown)
    print(json.dumps(report(options.out, ended), indent=1) if options.json else "\n".join(lines(options.out, ended)))
    return 0


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


def _earlier(options: argparse.Namespace, source: Source) -> Earlier | None:
    from edge.data.replay import Replay
    from edge.training.earlier import Earlier

    if options.replay is None:
        return None
    manifest = source.runner.manifest
    if source.texts is not None or manifest.head is None:
        raise UsageError("expected --replay beside rows with labels, found a decoder's texts; leave it out")
    if not 0 <= options.replay_share < 1:
        raise UsageError(f"expected a --replay-share of 0 to below 1, found {options.replay_share:g}")
    kept = Replay.load(options.replay, manifest.labels, manifest.preprocess.kind)
    return Earlier(kept, options.replay_share)


def _offer(earlier: Earlier, source: Source, rows: Sequence[Row], shown: _Shown) -> None:
    """Keep the most telling rows of the run; the adapter is written, so what fails here is only said."""
    try:
        new = earlier.offer(source.runner, rows)
        shown.say(f"{new} rows of this run are kept in {earlier.replay.folder}, {len(earlier.replay)} in all.")
    except StorageError as problem:
        shown.say(f"{problem}; the rows kept are those of before")
    finally:
        source.runner.close()


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
