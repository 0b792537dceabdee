"""As much of JSON Schema 2020-12 as docs/messages.schema.json uses, written from the specification alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {
    *("$schema", "$defs", "$ref", "title", "description", "oneOf", "anyOf", "const", "enum", "type", "pattern"),
    *("minimum", "maximum", "items", "properties", "required", "additionalProperties", "x-travels"),
}


def problems(value: Any, schema: Any, root: dict[str, Any], at: str = "it") -> Iterator[str]:
    """Everything about a value that a schema does not allow."""
    if schema is True:
        return
    unknown = set(schema) - KNOWN
    if unknown:
        raise ValueError(f"{at}: this checker does not know {unknown}")
    if "$ref" in schema:
        yield from problems(value, _found(schema["$ref"], root), root, at)
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{at}: not {schema['const']!r}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{at}: not one of {schema['enum']}"
    yield from _choices(value, schema, root, at)
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{at}: not a {schema['type']}"
        return
    yield from _inside(value, schema, root, at)


def _found(reference: str, root: dict[str, Any]) -> Any:
    where = root
    for step in reference.removeprefix("#/").split("/"):
        where = where[step]
    return where


def _choices(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for word, most in (("anyOf", len(schema.get("anyOf", ()))), ("oneOf", 1)):
        if word in schema:
            fits = sum(not list(problems(value, one, root, at)) for one in schema[word])
            if not 1 <= fits <= most:
                yield f"{at}: fits {fits} of {word}"


def _inside(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    # the dollar of ECMA 262, whose expressions these are, does not look past a line's end
    if isinstance(value, str) and not re.search(schema.get("pattern", "").replace("$", r"\Z"), value):
        yield f"{at}: does not match {schema['pattern']}"
    if _is(value, "number"):
        if value < schema.get("minimum", value):
            yield f"{at}: below {schema['minimum']}"
        if value > schema.get("maximum", value):
            yield f"{at}: above {schema['maximum']}"
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from problems(item, schema["items"], root, f"{at}[{index}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            yield from problems(item, known.get(name, schema.get("additionalProperties", {})), root, f"{at}.{name}")


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (not isinstance(value, bool) or kind == "boolean")


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
