"""The one door to MessagePack, in which messages travel (why not CBOR or JSON: docs/adr/0004)."""

from __future__ import annotations

from typing import Any, cast

import msgpack

from console.errors import BadData
from wire.json_text import check_depth

LIMIT_BYTES = 2_000_000  # mosquitto 2.1 refuses larger packets; chunks keep us far below
LIMIT_ITEMS = 1 << 16  # of a list or table: the reader makes room for as many as a head says, at every depth


def pack(value: Any) -> bytes:
    """Plain values (None, bool, int, float, str, bytes, list, dict) as MessagePack."""
    return cast(bytes, msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, what: str) -> Any:
    """The plain value in MessagePack bytes from outside.

    Raises:
        BadData: not MessagePack, longer than 2 MB, nested more than 64 deep, with lists of more than 65,536 items,
            with extension types or keys that are not text.
    """
    if len(data) > LIMIT_BYTES:
        raise BadData(f"expected {what} of at most {LIMIT_BYTES} bytes, found {len(data)}; it was ignored")
    try:
        found = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            ext_hook=_no_extension,
            max_array_len=LIMIT_ITEMS,
            max_map_len=LIMIT_ITEMS,
        )
        check_depth(found)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise BadData(f"expected {what} as MessagePack, found bytes that are not ({error}); it was ignored") from error
    return found


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")
