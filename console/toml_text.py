"""Tables of plain values as TOML text; console.toml reads it back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from console.errors import BadData


def toml_text(tables: Mapping[str, Any], head: str = "") -> str:
    """Tables as TOML.

    Args:
        tables: of booleans, numbers, texts, and lists and tables of them.
        head: comments to begin with.

    Raises:
        BadData: an entry is no plain value, or outside of a table.

    >>> print(toml_text({"agent": {"data": "data", "threads": 2}}), end="")
    <BLANKLINE>
    [agent]
    data = "data"
    threads = 2
    """
    parts = []
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise BadData(f"expected tables, found the entry {name} outside of them; mend the file")
        parts.append("\n".join([f"\n[{name}]", *(toml_line(key, value) for key, value in table.items())]))
    return head + "\n".join(parts) + "\n"


def toml_line(key: str, value: Any) -> str:
    """A key and a plain value; a table is written inline.

    Raises:
        BadData: the value is not plain.

    >>> toml_line("cores", {"value": 4, "source": "unverified"})
    'cores = { value = 4, source = "unverified" }'
    """
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(toml_line(key, inner) for key, inner in value.items())} }}" if value else "{}"
    raise BadData(f"expected plain values, found {value!r}; mend the file")
