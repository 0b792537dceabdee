"""The one door to JSON from outside: what Python's reader lets through or ends on is refused here (RFC 8259).

Nesting deeper than any document of ours (Python ends such text with a RecursionError, or a writer does later), NaN and
infinities (JSON has none), and halves of characters, which no file or message can hold again.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH = 64
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(data: bytes | str, *, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        data: UTF-8 (or UTF-16 or UTF-32, as the standard library finds out).
        finite: whether NaN and infinities are refused; files of our own that hold measurements may have them.

    Raises:
        ValueError: it is not JSON, or something in it is none of what is said above.
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        found = json.loads(text, parse_constant=_refused) if finite else json.loads(text)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEPTH} deep") from error
    check_depth(found)
    if _HALF.search(text):
        json.dumps(found, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    if finite and ("e" in text or "E" in text) and not _all_finite(found):
        raise ValueError("a number in it is larger than 64 bits can say")
    return found


def check_depth(value: object) -> None:
    """Refuse lists and tables within lists and tables beyond what documents and messages have.

    Raises:
        ValueError: they are nested more than 64 deep.
    """
    level = [value]
    for _ in range(DEPTH + 1):
        level = [child for parent in level for child in _children(parent) if isinstance(child, (dict, list))]
        if not level:
            return
    raise ValueError(f"it is nested more than {DEPTH} deep")


def _children(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _all_finite(value: object) -> bool:
    level = [value]
    while level:
        if any(isinstance(v, float) and not math.isfinite(v) for v in level):
            return False
        level = [child for parent in level for child in _children(parent)]
    return True


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
