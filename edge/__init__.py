"""The agent of a board: a core that talks and a worker that computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edge.model import Model
    from wire.envelope import Trust


def load(folder: str | Path, trust: Trust | str | Path | None = None, threads: int = 1) -> Model:
    """Check a bundle and make it ready, see `edge.model.load`; imported when called, the core never needs it."""
    from console.private import report_nothing

    report_nothing()
    from edge.model import load as load_model

    return load_model(folder, trust, threads)
