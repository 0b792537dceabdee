"""The doors of importance: the file, and what boards say of their slots."""

from __future__ import annotations

import json
from functools import partial

from tests.fuzz import mutate
from tests.fuzz.decoder import Decoder, of_bytes
from wire.importance import file, told

ONE = file.SlotImportance(1.25e-4, 3e-9, 12)
WHOLE = file.Importance(file.FORMAT, 1, "toy-1", "boards", 12, {"a.query": ONE, "b.query": ONE}, boards=3)

IMPORTANCE: tuple[Decoder, ...] = (
    of_bytes(
        "importance file",
        mutate.bent_json,
        partial(file.parse_importance, where="a file"),
        lambda: (file.to_bytes(WHOLE),),
        write=file.to_bytes,
    ),
    of_bytes(
        "importance that a board tells",
        mutate.bent_json,
        lambda data: told.read_told(data.decode(errors="replace"), "a board"),
        lambda: (json.dumps({"a.query": 0.5, "b.query": 1e-9}).encode(),),
    ),
)
