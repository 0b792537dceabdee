"""A page that changes in place on a terminal; rich draws it and is imported only then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[str], None]


def is_terminal() -> bool:
    """Whether standard output can be drawn on."""
    return sys.stdout.isatty()


@contextmanager
def screen() -> Iterator[Show]:
    """Take the whole terminal; the function that is given shows a page, and the terminal is given back at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        yield lambda page: live.update(Text(page), refresh=True)
