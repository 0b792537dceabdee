"""One door to TOML: the standard library's reader where it exists, its backport on Python 3.10."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from console.errors import BadData, StorageError

DEPTH = 32  # of tables within tables
LIMIT_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        StorageError: the file cannot be read.
        BadData: it is not TOML, or more of it than anybody writes.
    """
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise BadData(f"expected TOML of at most {LIMIT_BYTES} bytes in {path}, found more; split it")
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        _check(tables)
    except OSError as error:
        raise StorageError(
            f"expected a TOML file at {path}, found none that can be read ({error.strerror}); check the path"
        ) from error
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise BadData(f"expected TOML in {path}, found something else ({why}); mend that line") from error
    return tables


def _check(tables: dict[str, Any]) -> None:
    """Integers have 64 bits (TOML 1.0); Python's reader takes longer ones, which it then cannot write."""
    level: list[Any] = [tables]
    for _ in range(DEPTH):
        if any(isinstance(value, int) and not -(1 << 63) <= value < 1 << 63 for value in level):
            raise ValueError("an integer in it is longer than 64 bits")
        lists = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))]
        level = [child for children in lists for child in children]
        if not level:
            return
    raise RecursionError
