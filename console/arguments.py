"""argparse with our exit codes: a wrong command line is a UsageError, not an exit from inside a library."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NoReturn

from console.errors import UsageError

_asked: ContextVar[bool] = ContextVar("asked", default=False)


class _Found(Exception):  # not an error: it carries a parser out of a verb that would run with it
    def __init__(self, parser: Arguments) -> None:
        self.parser = parser


LONGEST_USAGE = 300  # characters; of more nobody finds the option that is meant


class Arguments(argparse.ArgumentParser):
    """An argument parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's sentence and the usage line, or where to find a long one."""
        usage = " ".join(self.format_usage().split())
        raise UsageError(f"{message}; {usage if len(usage) <= LONGEST_USAGE else f'see `{self.prog} --help`'}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, unless only the parser itself is asked for."""
        if _asked.get():
            raise _Found(self)
        return super().parse_known_args(args, namespace)


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """The `type` of an option that is a whole number of `least` to `most`.

    >>> whole(1)("16")
    16
    """

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        found = int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
        if found is None or not least <= found <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} to {most}, found {text!r}")
        return found

    return read


def above_zero(text: str) -> float:
    """The `type` of an option that is a finite number above 0.

    >>> above_zero("0.5")
    0.5
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return found


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
