"""What is published of the messages is what they are, for readers in any language."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from console.errors import BadData
from tests.conftest import ROOT
from tests.wire import schema
from tests.wire.json_schema import problems
from wire.envelope import Trust, unseal
from wire.keys import parse_public_key
from wire.messages import MESSAGES, decode, encode
from wire.pack import pack
from wire.record import plain

PUBLISHED: dict[str, Any] = json.loads(schema.PUBLISHED.read_text(encoding="utf-8"))
GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(schema.GOLDEN.read_text(encoding="utf-8"))
EXAMPLES = [(name, e["fields"], e["hex"]) for name, all_ in GOLDEN.items() if name != "envelope" for e in all_]


def independent(hexadecimal: str) -> Any:
    """Bytes as msgpack's own reader takes them, each bin as hex digits."""
    return schema.readable(msgpack.unpackb(bytes.fromhex(hexadecimal), raw=False))


def wrong(value: Any, name: str) -> list[str]:
    """What the published schema has against a value as one type."""
    return list(problems(value, {"$ref": f"#/$defs/{name}"}, PUBLISHED))


def test_what_is_published_is_up_to_date() -> None:
    """The schema and the table in docs/messages.md are those of the code: `python -m tests.wire.schema` writes them."""
    assert schema.PUBLISHED.read_text(encoding="utf-8") == schema.text(schema.published())
    assert schema.table() in (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")


def test_every_type_has_golden_bytes() -> None:
    """What is written today of each type is among the golden bytes; if not, add it and leave the old ones there."""
    for name, examples in schema.golden().items():
        assert {e["hex"] for e in examples} <= {e["hex"] for e in GOLDEN[name]}, name
    assert GOLDEN.keys() == {*MESSAGES, "envelope"}


@pytest.mark.parametrize(("name", "fields", "hexadecimal"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_golden_bytes_are_read_for_ever(name: str, fields: Any, hexadecimal: str) -> None:
    """Golden bytes decode to their fields, here and with an independent reader, and the published schema takes them."""
    found = schema.readable(plain(decode(bytes.fromhex(hexadecimal), MESSAGES[name])))
    assert {key: found[key] for key in fields} == fields

    read = independent(hexadecimal)
    assert read == {"type": name, "schema": 1, **fields}
    assert wrong(read, name) == []
    assert list(problems(read, PUBLISHED, PUBLISHED)) == []


def test_the_golden_envelope_is_one() -> None:
    """Its signature holds by the rule that the page states, computed here without the project's code."""
    example = GOLDEN["envelope"][0]
    data, fields = bytes.fromhex(example["hex"]), independent(example["hex"])
    assert {k: fields[k] for k in example["fields"]} == example["fields"]
    assert wrong(fields, "envelope") == []

    key = parse_public_key(example["signer"], "device", "the example")
    body = bytes.fromhex(fields["body"])
    Ed25519PublicKey.from_public_bytes(key.raw).verify(bytes.fromhex(fields["sig"]), b"edgequilt/1/device\x00" + body)
    assert unseal(data, "device", Trust([key]), "the example") == (body, key)


@pytest.mark.parametrize(("name", "fields", "hexadecimal"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_schema_and_code_refuse_alike(name: str, fields: Any, hexadecimal: str) -> None:
    """A field left out, of another type, or unknown: what the published schema says of it the code says too."""
    whole = msgpack.unpackb(bytes.fromhex(hexadecimal), raw=False)
    changes = [{**whole, "from_the_future": [1]}]
    for key in fields:
        changes += [{k: v for k, v in whole.items() if k != key}, {**whole, key: None}, {**whole, key: True}]
        changes += [{**whole, key: -1}, {**whole, key: "\n"}, {**whole, key: [1.5]}]
    for changed in changes:
        try:
            decode(pack(changed), MESSAGES[name])
            refused = False
        except BadData:
            refused = True
        assert bool(wrong(schema.readable(changed), name)) == refused, changed


def test_what_a_sample_is_it_says_again() -> None:
    """Encoding what golden bytes of today decode to gives these bytes."""
    for name, examples in schema.golden().items():
        for example in examples if name != "envelope" else []:
            assert encode(decode(bytes.fromhex(example["hex"]), MESSAGES[name])).hex() == example["hex"]
