"""Records: frozen dataclasses that enter as plain mappings by one door.

`read_record` checks a mapping (from JSON or MessagePack) against a dataclass and reports every problem at once.
Fields that this version does not know are kept in `extra` and written back by `plain`, so that an older hub or
board never drops what a newer one said. Constraints stand beside the field: `field(metadata=at_least(0))`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import reprlib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from console.errors import BadData, join
from console.table import shown

Record = TypeVar("Record")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
DIGEST = r"[0-9a-f]{64}"
TOLD, SENTENCE = 20, 300  # problems that are spelled out, and how much of each
LARGEST = 1 << 63  # JSON and MessagePack know larger integers, but no ledger keeps them, and no size or count needs one


def at_least(minimum: float, maximum: float | None = None) -> dict[str, Any]:
    """Metadata of a number that has bounds."""
    return {"minimum": minimum, "maximum": maximum}


def matching(pattern: str) -> dict[str, Any]:
    """Metadata of a text that must match a pattern as a whole."""
    return {"pattern": pattern}


def read_record(kind: type[Record], mapping: object, where: str) -> Record:
    """Build a record from a mapping.

    Args:
        kind: the dataclass; a field `extra: dict` receives what it does not know.
        mapping: what was decoded.
        where: what the bytes were, for the message.

    Raises:
        BadData: naming every field that is absent or wrong.
    """
    problems: list[str] = []
    record = _record(kind, mapping, "", problems)
    if problems:
        told = [shown(problem[:SENTENCE]) for problem in problems[:TOLD]]  # they quote what a stranger wrote
        raise BadData(f"{where} is not what it should be: {join([*told, *problems[TOLD:]], TOLD)}")
    return record  # type: ignore[no-any-return]  # a record without problems is of the kind asked for


def plain(record: Any) -> Any:
    """The mapping that `read_record` reads: nested records become mappings, tuples lists, `extra` is merged."""
    kind: Any = type(record)
    if kind in _WHOLE:
        return record
    names = _names(kind)
    if names is not None:
        out = {name: plain(getattr(record, name)) for name in names}
        return {**out, **getattr(record, "extra", {})}
    if isinstance(record, (tuple, list)):
        return [plain(item) for item in record]
    if isinstance(record, Mapping):
        return {key: plain(value) for key, value in record.items()}
    return record


_WHOLE = frozenset({str, int, float, bool, bytes, type(None)})


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass but `extra`; None of what is none. A round is written down at every update."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(f.name for f in dataclasses.fields(kind) if f.name != "extra")


def _record(kind: Any, mapping: object, path: str, problems: list[str]) -> Any:
    if not isinstance(mapping, Mapping):
        problems.append(f"{path or 'it'}: expected a table, found {_called(mapping)}")
        return None
    hints = _hints(kind)
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        at = f"{path}.{item.name}" if path else item.name
        if item.name == "extra":
            continue
        if item.name not in mapping:
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                problems.append(f"{at}: missing")
            continue
        values[item.name] = _value(hints[item.name], mapping[item.name], at, item.metadata, problems)
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = {k: v for k, v in mapping.items() if k not in known}
    if unknown and "extra" in known:
        values["extra"] = unknown
    return None if problems else kind(**values)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of a dataclass: working them out takes longer than reading a message does."""
    return get_type_hints(kind)


def _value(  # noqa: PLR0911  # one return per form a hint can have
    hint: Any, value: object, at: str, limits: Mapping[str, Any], problems: list[str]
) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, at, limits, problems)
    if origin is tuple:
        return _sequence(arguments[0], value, at, limits, problems)
    if origin is dict or hint is dict:
        return _mapping(arguments, value, at, limits, problems)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, at, problems)
    if origin is Literal:
        if value not in arguments:
            problems.append(f"{at}: expected one of {', '.join(map(str, arguments))}, found {_short(value)}")
        return value
    if hint is Any:
        return value
    return _scalar(hint, value, at, limits, problems)


def _sequence(hint: Any, value: object, at: str, limits: Mapping[str, Any], problems: list[str]) -> Any:
    if not isinstance(value, (list, tuple)):
        problems.append(f"{at}: expected a list, found {_called(value)}")
        return ()
    return tuple(_value(hint, item, f"{at}[{i}]", limits, problems) for i, item in enumerate(value))


def _mapping(arguments: tuple[Any, ...], value: object, at: str, limits: Mapping[str, Any], problems: list[str]) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        problems.append(f"{at}: expected a table with text keys, found {_called(value)}")
        return {}
    hint = arguments[1] if arguments else Any
    return {k: _value(hint, v, f"{at}.{k}", limits, problems) for k, v in value.items()}


def _scalar(hint: Any, value: object, at: str, limits: Mapping[str, Any], problems: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST:
        value = float(value)
    if hint in (int, float) and isinstance(value, int) and abs(value) >= LARGEST:
        problems.append(f"{at}: expected a number of at most 64 bits, found one of {value.bit_length()}")
        return value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        problems.append(f"{at}: expected {hint.__name__}, found {_called(value)}")
        return value
    low, high, pattern = limits.get("minimum"), limits.get("maximum"), limits.get("pattern")
    if low is not None and isinstance(value, (int, float)) and not value >= low:
        problems.append(f"{at}: expected at least {low}, found {value}")
    if high is not None and isinstance(value, (int, float)) and not value <= high:
        problems.append(f"{at}: expected at most {high}, found {value}")
    if pattern is not None and isinstance(value, str) and not re.fullmatch(pattern, value):
        problems.append(f"{at}: expected text like {pattern}, found {value[:80]!r}")
    return value


def _called(value: object) -> str:
    if value is None:
        return "nothing"
    text = value[:40] if isinstance(value, str) else _short(value)[:40]
    return f"{type(value).__name__} {text!r}"


def _short(value: object) -> str:
    """A value of any size as a few words; writing out all of what a stranger sent may take seconds, or fail."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        return f"one of {value.bit_length()} bits"
    return _SHORT.repr(value)
