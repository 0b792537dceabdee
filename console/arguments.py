"""argparse with our exit codes: a wrong command line is a UsageError, not an exit from inside a library."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn

from console.errors import UsageError

_asked: ContextVar[bool] = ContextVar("asked", default=False)


class _Found(Exception):  # not an error: it carries a parser out of a verb that would run with it
    def __init__(self, parser: Arguments) -> None:
        self.parser = parser


class Arguments(argparse.ArgumentParser):
    """An argument parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's sentence and the usage line."""
        usage = " ".join(self.format_usage().split())
        raise UsageError(f"{message}; {usage}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, unless only the parser itself is asked for."""
        if _asked.get():
            raise _Found(self)
        return super().parse_known_args(args, namespace)


def parser_of(main: Callable[[list[str]], int]) -> Arguments | None:
    """The parser that a verb makes, without running the verb; None if it parses by other means."""
    token = _asked.set(True)
    try:
        main([])
    except _Found as found:
        return found.parser
    finally:
        _asked.reset(token)
    return None
