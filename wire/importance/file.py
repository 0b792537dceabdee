"""The importance file: JSON, scores of slots by method, with what they rest on (docs/importance.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from console.errors import BadData, join
from wire.files import read_bytes
from wire.json_text import parse_json
from wire.record import at_least, plain, read_record

FORMAT, SCHEMA = "edgequilt-importance", 1
LIMIT_BYTES, MOST_SLOTS, LONGEST_NAME = 4 << 20, 16_384, 512
LARGEST = 1e300  # a sum of some is still finite
Method = Literal["hsplitlora", "fedpipe"]
METHODS: tuple[Method, ...] = ("hsplitlora", "fedpipe")


@dataclass(frozen=True)
class SlotImportance:
    """Of one slot: a score by each method, and how many measurements they were made of.

    `hsplitlora` is not divided by a cost: who plans knows the costs of a board (`wire.importance.hsplitlora`).
    """

    hsplitlora: float = field(metadata=at_least(0, LARGEST))
    fedpipe: float = field(metadata=at_least(0, LARGEST))
    count: int = field(metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Importance:
    """What a file holds.

    Attributes:
        format: `FORMAT`.
        schema: 1.
        model: the id that bundles and adapters of the model bear; empty: of a model that was not exported.
        source: `data`: measured on rows when it was planned; `boards`: reported by boards.
        stage: measurements in a row: batches of rows, or rounds.
        rows: of data, each time together.
        boards: whose reports are in it; 0 of data.
        slots: by their names.
    """

    format: str
    schema: int
    model: str
    source: Literal["data", "boards"]
    stage: int = field(metadata=at_least(0))
    slots: dict[str, SlotImportance]
    rows: int = field(default=0, metadata=at_least(0))
    boards: int = field(default=0, metadata=at_least(0))
    extra: dict[str, Any] = field(default_factory=dict)

    def scores(self, method: Method) -> dict[str, float]:
        """By the name of the slot.

        >>> one = Importance(FORMAT, 1, "m", "data", 3, {"a": SlotImportance(0.5, 0.25, 3)})
        >>> one.scores("fedpipe")
        {'a': 0.25}
        """
        return {name: float(getattr(slot, method)) for name, slot in self.slots.items()}

    def of(self, names: Iterable[str], method: Method) -> dict[str, float]:
        """Scores of some slots; one that is not here is as important as the mean of those that are.

        >>> one = Importance(FORMAT, 1, "m", "data", 3, {"a": SlotImportance(0.5, 0.25, 3)})
        >>> one.of(["a", "new"], "hsplitlora")
        {'a': 0.5, 'new': 0.5}
        """
        known = self.scores(method)
        mean = sum(known.values()) / len(known)
        return {name: known.get(name, mean) for name in names}


def to_bytes(importance: Importance) -> bytes:
    """JSON, slots in the order of their names; the same importance gives the same bytes."""
    mapping = plain(importance)
    mapping["slots"] = dict(sorted(mapping["slots"].items()))
    return (json.dumps(mapping, indent=1) + "\n").encode()


def parse_importance(data: bytes, where: str) -> Importance:
    """Read an importance file.

    Raises:
        BadData: it is none, naming everything that is wrong.
    """
    try:
        decoded = parse_json(data)
    except ValueError as error:
        raise BadData(
            f"expected importance as JSON in {where}, found something else ({error}); write it with edgequilt plan "
            "--write-importance or edgequilt hub importance --out"
        ) from error
    if isinstance(decoded, Mapping) and (decoded.get("format"), decoded.get("schema")) != (FORMAT, SCHEMA):
        found = f"format {str(decoded.get('format'))[:40]!r} schema {str(decoded.get('schema'))[:20]}"
        raise BadData(f"expected {FORMAT} of schema {SCHEMA} in {where}, found {found}; take a file of this version")
    importance = read_record(Importance, decoded, where)
    slots = importance.slots
    problems = [] if 0 < len(slots) <= MOST_SLOTS else [f"expected 1 to {MOST_SLOTS} slots, found {len(slots)}"]
    odd = [name[:40] for name in slots if not 0 < len(name) <= LONGEST_NAME or not name.isprintable()]
    problems += [f"expected names of 1 to {LONGEST_NAME} printable characters, found {join(odd)}"] if odd else []
    if problems:
        raise BadData(f"{where} is not what it should be: {'; '.join(problems)}")
    return importance


def read_importance(path: Path) -> Importance:
    """Read an importance file from disk.

    Raises:
        StorageError, BadData: it cannot be read, or is none.
    """
    return parse_importance(read_bytes(path, "an importance file", LIMIT_BYTES), str(path))
