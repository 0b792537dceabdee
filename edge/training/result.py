"""What a run leaves behind: the adapter file, a page, and a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.training import checkpoint
from edge.training.cache import in_words
from edge.training.conduct import Ended
from edge.training.history import Look, Session
from edge.training.page import page
from edge.training.saver import Saver
from wire.adapter import to_bytes
from wire.files import write_atomic
from wire.record import plain


def write(out: Path, html: Path | None, ended: Ended, saver: Saver) -> None:
    """The adapter first; then nothing needs the checkpoint any more.

    Raises:
        StorageError: something cannot be written; the checkpoint is still there.
    """
    write_atomic(out, to_bytes(ended.adapter))
    if html is not None:
        session = ended.session or Session({}, {}, over="solved in closed form")
        write_atomic(html, page(f"Training of {ended.adapter.model}", session, facts(ended), ended.sentences).encode())
    if saver.path is not None:
        checkpoint.remove(saver.path)


def facts(ended: Ended) -> list[tuple[str, str]]:
    """Names and values of what was done."""
    found = [("model", ended.adapter.model), ("trainer", ended.trainer), ("trained", ended.trained)]
    found.append(("parameters", f"{ended.parameters:,}"))
    if ended.cache is not None:
        found.append(("activations kept", in_words(ended.cache)))
    session = ended.session
    if session is None:
        return found
    found += [("steps", str(session.at)), ("seconds per step", f"{session.seconds / max(1, session.at):.3f}")]
    if session.losses:
        found.append(("loss", f"{session.losses[0].loss:.4f} at first, {session.losses[-1].loss:.4f} at last"))
    best = best_look(session)
    if best is not None:
        first, chosen = session.looks[0].score, best.score
        said = f"{100 * first.share:.1f} % right before, {100 * chosen.share:.1f} % after step {best.step}"
        found.append((f"{chosen.rows} rows kept back", said))
    if session.undone:
        found.append(("steps undone", f"{len(session.undone)}, the rate is now {session.rate:g} of what it was"))
    return [*found, ("ended", session.over)]


def lines(out: Path, ended: Ended) -> list[str]:
    """What is printed at the end."""
    width = max(len(name) for name, _ in facts(ended))
    return [*(f"{name.ljust(width)}  {value}" for name, value in facts(ended)), f"wrote {out}"]


def report(out: Path, ended: Ended) -> dict[str, Any]:
    """The same as plain values, for `--json`."""
    found: dict[str, Any] = {
        "adapter": str(out),
        "model": ended.adapter.model,
        "trainer": ended.trainer,
        "trained": ended.trained,
        "parameters": ended.parameters,
        "sentences": list(ended.sentences),
        "cache": None if ended.cache is None else plain(ended.cache),
    }
    session = ended.session
    if session is None:
        return found
    best = best_look(session)
    told = {
        name: plain(getattr(session, name)) for name in ("at", "over", "rate", "seconds", "losses", "looks", "undone")
    }
    return {**found, **told, "best": None if best is None else plain(best)}


def best_look(session: Session) -> Look | None:
    """The first look with the least loss."""
    return min(session.looks, key=lambda look: look.score.loss, default=None)
