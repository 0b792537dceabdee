"""What a manifest says of tables beside the graphs must hold together before one is mapped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from console.errors import BadData
from tests.wire.samples import manifest
from wire.manifest import Manifest, Tensor, parse_manifest, to_bytes
from wire.tables import Lookup, Table, file_bytes

FILES = dict.fromkeys(("segment0.forward.onnx", "segment0.weights.bin", "golden.safetensors"), b"x")
LOOKUP = Lookup("table.w.rows", "ids")
TABLES = {
    "fp32": Table("w", "w.bin", 10, 64, 32, (LOOKUP,)),
    "int8": Table("w", "w.bin", 10, 64, 8, (LOOKUP,)),
    "int4": Table("w", "w.bin", 10, 64, 4, (LOOKUP,), 32, symmetric=False),
}


def whole(table: Table) -> Manifest:
    """A manifest whose graph takes rows of a table."""
    m = manifest({**FILES, table.file: bytes(file_bytes(table))})
    (graph,) = m.segments[0].graphs
    graph = replace(graph, inputs=(*graph.inputs, Tensor("table.w.rows", "float32", (2, 3, 64))))
    segments = (replace(m.segments[0], graphs=(graph,)),)
    return replace(m, segments=segments, inputs=(*m.inputs, Tensor("ids", "int64", (2, 3))), tables=(table,))


@pytest.mark.parametrize(("name", "size"), [("fp32", 10 * 64 * 4), ("int8", 4096 + 40), ("int4", 2 * 4096 + 10)])
def test_tables_that_fit_are_believed(name: str, size: int) -> None:
    """Every format survives writing and reading, and its file is as long as the layout says."""
    assert file_bytes(TABLES[name]) == size
    assert parse_manifest(to_bytes(whole(TABLES[name]))) == whole(TABLES[name])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 11}, "table w of 11 x 64 in int8 rows has 4140 bytes, where w.bin has 4136"),
        ({"columns": 32}, r"gives 'table.w.rows' as float32 \[..., 32\], where segment0.forward takes float32 \[2, 3"),
        ({"bits": 5}, "has 5 bits, which none has; 4, 8, 32 are known"),
        ({"block": 32}, "has blocks of 32, which only 4 bits have"),
        ({"bits": 4, "block": 48}, "has blocks of 48 in 64 columns"),
        ({"bits": 4, "block": 0}, "has blocks of 0 in 64 columns"),
        ({"file": "v.bin"}, "table w names file 'v.bin', which is not listed"),
        ({"lookups": (Lookup("table.w.rows", "tokens"),)}, "reads rows by 'tokens', which is no input of the model"),
        ({"lookups": (Lookup("table.w.rows", "x"),)}, "reads rows by 'x', which is float32"),
        ({"lookups": (Lookup("rows", "ids"),)}, "gives 'rows', which no graph takes"),
        ({"lookups": (Lookup("x", "ids"),)}, "'x' is fed, and rows of a table as well"),
        ({"lookups": (LOOKUP, LOOKUP)}, "two lookups give 'table.w.rows'"),
        ({"rows": 0}, "rows: expected at least 1, found 0"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], words: str) -> None:
    """A table that its file, its graphs or its ids contradict is refused, with what contradicts what."""
    m = replace(whole(TABLES["int8"]), tables=(replace(TABLES["int8"], **changes),))
    with pytest.raises(BadData, match=words):
        parse_manifest(to_bytes(m))
