"""JSON Schema (draft 4) as far as cloud-init's schemas go: what is wrong with a document, by place.

A word that is not known here is an error, so that nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SAID = {
    "$schema",
    "$defs",
    "$id",
    "label",
    "title",
    "description",
    "default",
    "format",
    "hidden",
    "deprecated",
    "changed",
}
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[str]:
    """Everything that is wrong with a value."""
    if "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        yield from problems(value, found, root, at)
    for word, told in schema.items():
        if word.partition("_")[0] in SAID or word in SAID or word == "$ref":
            continue
        yield from _WORDS[word](value, told, schema, root, at)


def _type(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    names = told if isinstance(told, list) else [told]
    plain = not isinstance(value, bool)
    if not any(isinstance(value, KINDS[name]) and (plain or name == "boolean") for name in names):
        yield f"{at}: expected {told}, found {value!r}"


def _enum(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    if value not in told:
        yield f"{at}: expected one of {told}, found {value!r}"


def _properties(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for name in set(told) & set(value if isinstance(value, dict) else ()):
        yield from problems(value[name], told[name], root, f"{at}/{name}")


def _patterns(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        for pattern in told:
            if re.search(pattern, name):
                yield from problems(value[name], told[pattern], root, f"{at}/{name}")


def _additional(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for name in value if isinstance(value, dict) else ():
        if name in schema.get("properties", {}) or any(re.search(p, name) for p in schema.get("patternProperties", {})):
            continue
        if told is False:
            yield f"{at}: {name} is not known"
        elif isinstance(told, dict):
            yield from problems(value[name], told, root, f"{at}/{name}")


def _required(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{at}: {name} lacks" for name in told if name not in value)


def _items(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for number, item in enumerate(value if isinstance(value, list) else ()):
        one = told if isinstance(told, dict) else told[number] if number < len(told) else {}
        yield from problems(item, one, root, f"{at}/{number}")


def _bounds(word: str) -> Any:
    def check(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
        kind = {"I": list, "P": dict, "L": str}.get(word[3:4])
        if isinstance(value, (int, float) if kind is None else kind):
            size = len(value) if isinstance(value, (list, dict, str)) else value
            if size < told if word.startswith("min") else size > told:
                yield f"{at}: expected {word} {told}, found {size}"

    return check


def _pattern(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    if isinstance(value, str) and not re.search(told, value):
        yield f"{at}: expected {told}, found {value!r}"


def _unique(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    if told and isinstance(value, list) and any(item in value[:n] for n, item in enumerate(value)):
        yield f"{at}: something is in it twice"


def _all(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for one in told:
        yield from problems(value, one, root, at)


def _some(most: int) -> Any:
    def check(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
        found = [list(problems(value, one, root, at)) for one in told]
        fits = sum(not one for one in found)
        if not 0 < fits <= most:
            yield f"{at}: {fits} of {len(told)} ways fit: {found}"

    return check


def _nothing(value: Any, told: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    """What concerns none of our documents."""
    return iter(())


_WORDS: dict[str, Any] = {
    "type": _type,
    "enum": _enum,
    "properties": _properties,
    "patternProperties": _patterns,
    "additionalProperties": _additional,
    "additionalItems": _nothing,
    "prefixItems": _nothing,
    "required": _required,
    "items": _items,
    "pattern": _pattern,
    "uniqueItems": _unique,
    "allOf": _all,
    "anyOf": _some(10**9),
    "oneOf": _some(1),
    **{word: _bounds(word) for word in ("minItems", "maxItems", "minProperties", "minLength", "maxLength")},
    **{word: _bounds(word) for word in ("minimum", "maximum")},
}
