"""What is published of the messages, made from the code: `python -m tests.wire.schema`.

* `docs/messages.schema.json`: JSON Schema (2020-12) of all types and of the envelope. Messages are MessagePack, not
  JSON, so a reader first turns each `bin` into its hex digits.
* `docs/messages.golden.json`: examples of each type, fields and bytes. What is there stays for ever, since readers of
  every later version must take it; bytes that are lacking are added.
* the table of topics in `docs/messages.md`, printed.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.conftest import ROOT
from tests.wire.test_messages import SAMPLES
from wire.envelope import seal
from wire.keys import PrivateKey, PublicKey
from wire.messages import MESSAGES, SCHEMA, encode
from wire.record import plain
from wire.topics import TABLE, Topic

PUBLISHED = ROOT / "docs" / "messages.schema.json"
GOLDEN = ROOT / "docs" / "messages.golden.json"
SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}
HEX = {"type": "string", "pattern": "^(?:[0-9a-f]{2})*$", "description": "MessagePack bin, as hex digits"}
Json = dict[str, Any]
SIMPLE: dict[Any, Json] = {Any: {}, bytes: {"$ref": "#/$defs/bytes"}}


def published() -> Json:
    """The whole schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What hub and devices of edgequilt say to each other, schema {SCHEMA}",
        "$defs": {
            "bytes": HEX,
            **{name: message(kind) for name, kind in MESSAGES.items()},
            "envelope": _envelope(),
        },
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in MESSAGES],
    }


def message(kind: Any) -> Json:
    """One type: its fields, and how it travels."""
    made = record(kind)
    head = {"type": {"const": kind.TYPE}, "schema": {"const": SCHEMA}}
    made["properties"] = {**head, **made["properties"]}
    made["required"] = [*head, *made["required"]]
    rows = [row for row in TABLE if row.message is kind]
    return {"description": says(kind), **made, "x-travels": [_travels(row) for row in rows]}


def record(kind: Any) -> Json:
    """A dataclass; what it does not know is kept."""
    hints = get_type_hints(kind)
    fields = [f for f in dataclasses.fields(kind) if f.name != "extra"]
    needed = [f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    return {
        "type": "object",
        "properties": {f.name: value(hints[f.name], f.metadata) for f in fields},
        "required": needed,
        "additionalProperties": True,
    }


def value(hint: Any, limits: Mapping[str, Any]) -> Json:  # noqa: PLR0911  # one return per form a hint can have
    """What a field may hold."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        kinds = [value(a, limits) for a in arguments if a is not type(None)]
        return {"anyOf": [*kinds, {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": value(arguments[0], limits)}
    if origin is dict:
        return {"type": "object", "additionalProperties": value(arguments[1], limits)}
    if origin is Literal:
        return {"enum": list(arguments)}
    if hint in SIMPLE:
        return dict(SIMPLE[hint])
    if dataclasses.is_dataclass(hint):
        return record(hint)
    made: Json = {"type": SCALARS[hint]}
    for name in ("minimum", "maximum"):
        if limits.get(name) is not None:
            made[name] = limits[name]
    if limits.get("pattern"):
        made["pattern"] = f"^(?:{limits['pattern']})$"
    return made


def says(kind: Any) -> str:
    """The first paragraph of its docstring."""
    return " ".join(str(kind.__doc__).split("\n\n")[0].split())


def table() -> str:
    """A row per topic, for docs/messages.md."""
    lines = ["| type | direction | signed by | QoS | retained | expires | says |", "|---|---|---|---|---|---|---|"]
    for row in TABLE:
        retained, expires = "yes" if row.retain else "no", "never" if row.expiry_s is None else f"{row.expiry_s} s"
        cells = (f"`{row.message.TYPE}`", row.direction, row.signer or "–", str(row.qos), retained, expires)
        words = says(row.message).replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | {words} |")
    return "\n".join(lines) + "\n"


def golden() -> dict[str, list[Json]]:
    """Fields and bytes of examples of each type, and of the envelope around the first of them."""
    found: dict[str, list[Json]] = {}
    for sample in SAMPLES:
        example = {"fields": readable(plain(sample)), "hex": encode(sample).hex()}
        found.setdefault(type(sample).TYPE, []).append(example)
    body = bytes.fromhex(found["hello"][0]["hex"])
    key = signer()
    fields = {"v": 1, "role": "device", "key": key.public.id, "body": body.hex()}
    found["envelope"] = [{"signer": key.public.line, "fields": fields, "hex": seal(key, body).hex()}]
    return found


def signer() -> PrivateKey:
    """A key that everybody knows, for the envelope's example alone."""
    secret = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return PrivateKey(PublicKey("device", secret.public_key().public_bytes_raw(), "barn-1"), secret)


def readable(found: Any) -> Any:
    """Plain values as JSON has them: bytes as hex digits."""
    if isinstance(found, bytes):
        return found.hex()
    if isinstance(found, Mapping):
        return {key: readable(item) for key, item in found.items()}
    return [readable(item) for item in found] if isinstance(found, (list, tuple)) else found


def _travels(row: Topic) -> Json:
    return {
        "direction": row.direction,
        "qos": row.qos,
        "retain": row.retain,
        "expiry_s": row.expiry_s,
        "signed_by": row.signer or None,
    }


def _envelope() -> Json:
    return {
        "description": "Around all messages but chunks and hubkeys: body is the bytes of the message, sig Ed25519 over "
        '"edgequilt/1/" role 0x00 body.',
        "type": "object",
        "properties": {
            "v": {"const": 1},
            "role": {"enum": ["publisher", "hub", "device"]},
            "key": {"type": "string"},
            "body": {"$ref": "#/$defs/bytes"},
            "sig": {"type": "string", "pattern": "^[0-9a-f]{128}$"},
        },
        "required": ["v", "role", "key", "body", "sig"],
        "additionalProperties": True,
    }


def text(found: Json) -> str:
    """As it is kept."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write both files, print the table."""
    PUBLISHED.write_text(text(published()), encoding="utf-8")
    kept = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    for name, examples in golden().items():
        known = kept.setdefault(name, [])
        known += [e for e in examples if e["hex"] not in {k["hex"] for k in known}]
    GOLDEN.write_text(text(kept), encoding="utf-8")
    print(table(), end="")


if __name__ == "__main__":
    main()
