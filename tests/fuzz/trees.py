"""Trees of JSON and MessagePack as they can be written and not as Python would keep them.

Tables are pairs, so that a name may come twice; `Raw` stands for bytes that are written as they are: lies about
lengths, numbers that no reader keeps, nesting without end.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack


@dataclass
class Pairs:
    """A table."""

    items: list[tuple[Any, Any]]


@dataclass
class Raw:
    """Bytes in place of a value."""

    data: bytes


Write = Callable[[Any], bytes]
DEEP = 3000
# what readers get wrong: edges of types, names that mean something to a file system, and far too much of everything
PLAIN: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 256, 65535, 65536, (1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1, -(1 << 63), 0.0, -0.0, 0.5, 1e-320, 1e308, math.nan, math.inf, -math.inf, "", "a", "0" * 64,
    "f" * 64,
    "A" * 5000, "../x", "/etc/passwd", "a/../../b", "a\x00b", "\u202ex", "ﬀ", "\n", ".", "..", "#", "+", "NaN",
    "1e9999",
    [], [[]], {}, {"": None}, [0] * 3000, ["a"] * 500, {str(i): i for i in range(300)},
)  # fmt: skip
JSON_ONLY: tuple[Any, ...] = (
    10**400, Raw(b"1" * 5000), Raw(b"1e99999"), Raw(b'"\\ud800"'), Raw(b'"\\udcff\\u0000"'), Raw(b"NaN"),
    Raw(b"[" * DEEP + b"]" * DEEP), Raw(b'{"a":' * DEEP + b"1" + b"}" * DEEP), Raw(b"-0"), Raw(b"01"), Raw(b'"\xff"'),
    Raw(b"-Infinity"), Raw(b'"\\u0000"'), Raw(b""),
)  # fmt: skip
MSGPACK_ONLY: tuple[Any, ...] = (
    b"", b"\x00" * 32, b"x" * 5000, Raw(b"\xdd\xff\xff\xff\xff"), Raw(b"\xdf\xff\xff\xff\xff"),
    Raw(b"\xc6\xff\xff\xff\xff"),
    Raw(b"\xdb\x7f\xff\xff\xff"), Raw(b"\xdd\x00\x00\xff\xff" * 400), Raw(b"\x91" * 400 + b"\x00"), Raw(b"\xc1"),
    Raw(b"\x91" * DEEP), Raw(b"\xd4\x05\x00"), Raw(b"\xd6\xff\x00\x00\x00\x00"), Raw(b"\xa2\xff\xfe"),
    Raw(b"\xca\x7f\xc0\x00\x00"),
    Raw(b"\x81\xc0\x01"), Raw(b"\x81\x90\x01"), Raw(b"\x82\xa1a\x01\xa1a\x02"), Raw(b"\x81" * 400 + b"\xa1a" * 400),
)  # fmt: skip


def grown(value: Any) -> Any:
    """A plain value as a tree."""
    if isinstance(value, dict):
        return Pairs([(k, grown(v)) for k, v in value.items()])
    return [grown(v) for v in value] if isinstance(value, (list, tuple)) else value


def bent(tree: Any, draw: random.Random, odd: tuple[Any, ...]) -> Any:
    """A tree with one place in it that is otherwise.

    Args:
        tree: is left as it is.
        draw: decides where and how.
        odd: values to put there, besides those that both formats have.
    """
    places = _places(tree)
    way = draw.choice(places)
    return _changed(tree, way, draw, odd)


def _places(tree: Any, way: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    found = [way]
    children = [v for _, v in tree.items] if isinstance(tree, Pairs) else tree if isinstance(tree, list) else []
    for index, child in enumerate(children[:200]):
        found += _places(child, (*way, index))
    return found


def _changed(tree: Any, way: tuple[int, ...], draw: random.Random, odd: tuple[Any, ...]) -> Any:
    if way and isinstance(tree, Pairs):
        items = list(tree.items)
        name, child = items[way[0]]
        items[way[0]] = (name, _changed(child, way[1:], draw, odd))
        return Pairs(items)
    if way:
        return [_changed(v, way[1:], draw, odd) if i == way[0] else v for i, v in enumerate(tree)]
    return _instead(tree, draw, odd)


def _instead(value: Any, draw: random.Random, odd: tuple[Any, ...]) -> Any:  # one return per way to bend
    if isinstance(value, (Pairs, list)) and draw.random() < 0.6:
        items: list[Any] = list(value.items) if isinstance(value, Pairs) else list(value)
        new = (_key(draw, items), grown(draw.choice(PLAIN))) if isinstance(value, Pairs) else grown(draw.choice(PLAIN))
        at = draw.randrange(len(items) + 1)
        how = draw.random()
        if how < 0.35 and items:
            del items[min(at, len(items) - 1)]
        elif how < 0.6 and items:
            items.insert(at, draw.choice(items))
        elif how < 0.7:
            draw.shuffle(items)
        else:
            items.insert(at, new)
        return Pairs(items) if isinstance(value, Pairs) else items
    if isinstance(value, bool):
        return not value
    if isinstance(value, int) and draw.random() < 0.5:
        text = str(value) if abs(value) < 10**4000 else "9"
        return draw.choice((value + 1, value - 1, -value, value * 2, value << 20, text))
    if isinstance(value, float) and draw.random() < 0.5:
        return draw.choice((-value, value * 1e30, value / 1e30, math.nextafter(value, math.inf), str(value)))
    if isinstance(value, (str, bytes)) and value and draw.random() < 0.5:
        at = draw.randrange(len(value))
        more: Any = value  # text or bytes, whichever it is
        return draw.choice((more[:at], more[at:], more + more, more[:at] + more[at : at + 1] * 3 + more[at:]))
    return grown(draw.choice((*PLAIN, *odd)))


def _key(draw: random.Random, items: list[Any]) -> str:
    names = [name for name, _ in items if isinstance(name, str)]
    return str(draw.choice((*names, "", "extra", "type", "schema", "a" * 300, "__class__", "\x00")))


def as_json(tree: Any) -> bytes:
    """A tree as JSON, right or not."""
    if isinstance(tree, Raw):
        return tree.data
    if isinstance(tree, Pairs):
        return b"{" + b",".join(as_json(str(k)) + b":" + as_json(v) for k, v in tree.items) + b"}"
    if isinstance(tree, list):
        return b"[" + b",".join(map(as_json, tree)) + b"]"
    if isinstance(tree, int) and not isinstance(tree, bool) and abs(tree) > 1 << 70:
        return hex(tree).encode() if abs(tree) > 10**4000 else str(tree).encode()
    return json.dumps(tree.decode("latin-1") if isinstance(tree, bytes) else tree).encode()


def as_msgpack(tree: Any) -> bytes:
    """A tree as MessagePack, right or not."""
    if isinstance(tree, Raw):
        return tree.data
    if isinstance(tree, Pairs):
        parts = [part for k, v in tree.items for part in (as_msgpack(k), as_msgpack(v))]
        return _head(len(tree.items), 0x80, 0xDE) + b"".join(parts)
    if isinstance(tree, list):
        return _head(len(tree), 0x90, 0xDC) + b"".join(map(as_msgpack, tree))
    if isinstance(tree, int) and not -(1 << 63) <= tree < 1 << 64:
        return bytes(msgpack.packb(float(tree) if abs(tree) < 10**300 else str(tree)[:100]))
    return bytes(msgpack.packb(tree, use_bin_type=True, unicode_errors="surrogatepass"))


def _head(count: int, short: int, long: int) -> bytes:
    return bytes([short | count]) if count < 16 else struct.pack(">BI", long + 1, count)
