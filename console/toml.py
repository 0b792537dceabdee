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


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        StorageError: the file cannot be read.
        BadData: it is not TOML.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(
            f"expected a TOML file at {path}, found none that can be read ({error.strerror}); check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(f"expected TOML in {path}, found something else ({error}); mend that line") from error
    return tables
