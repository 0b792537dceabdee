"""argparse with our exit codes: a wrong command line is a UsageError, not an exit from inside a library."""

from __future__ import annotations

import argparse
from typing import NoReturn

from console.errors import UsageError


class Arguments(argparse.ArgumentParser):
    """An argument parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's sentence and the usage line."""
        usage = " ".join(self.format_usage().split())
        raise UsageError(f"{message}; {usage}")
