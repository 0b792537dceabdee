"""The one door to MessagePack, in which messages travel (why not CBOR or JSON: docs/adr/0004)."""

from __future__ import annotations

from typing import Any, cast

import msgpack

from console.errors import BadData

LIMIT_BYTES = 2_000_000  # mosquitto 2.1 refuses larger packets; chunks keep us far below


def pack(value: Any) -> bytes:
    """Plain values (None, bool, int, float, str, bytes, list, dict) as MessagePack."""
    return cast(bytes, msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, what: str) -> Any:
    """The plain value in MessagePack bytes from outside.

    Raises:
        BadData: not MessagePack, longer than 2 MB, nested too deeply, with extension types or keys that are not text.
    """
    if len(data) > LIMIT_BYTES:
        raise BadData(f"expected {what} of at most {LIMIT_BYTES} bytes, found {len(data)}; it was ignored")
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise BadData(f"expected {what} as MessagePack, found bytes that are not ({error}); it was ignored") from error


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")
