"""One graph per form of a rule that moves, repeats, takes or puts elements; see test_rules."""

from __future__ import annotations

CASES = {
    "Slice, step": (
        "(T[3,7] a) => (T[3,3] y) <int64[1] b = {1}, int64[1] e = {7}, int64[1] x = {1}, int64[1] s = {2}> "
        "{ y = Slice(a, b, e, x, s) }"
    ),
    "Slice, step leaves a rest": (
        "(T[7,3] a) => (T[3,3] y) <int64[1] b = {0}, int64[1] e = {7}, int64[1] x = {0}, int64[1] s = {3}> "
        "{ y = Slice(a, b, e, x, s) }"
    ),
    "Slice, backwards": (
        "(T[3,7] a) => (T[3,7] y) <int64[1] b = {-1}, int64[1] e = {-9223372036854775808}, int64[1] x = {1}, "
        "int64[1] s = {-1}> { y = Slice(a, b, e, x, s) }"
    ),
    "Slice, backwards in steps, two axes": (
        "(T[5,7] a) => (T[2,3] y) <int64[2] b = {9, 6}, int64[2] e = {0, 0}, int64[2] x = {0, 1}, "
        "int64[2] s = {-3, -2}> { y = Slice(a, b, e, x, s) }"
    ),
    "Pad": "(T[2,3] a) => (T[4,6] y) <int64[4] p = {1, 0, 1, 3}> { y = Pad(a, p) }",
    "Pad, cut": "(T[4,5] a) => (T[4,4] y) <int64[4] p = {1, -2, -1, 1}, T v = {3.0}> { y = Pad(a, p, v) }",
    "Pad, axis": ("(T[2,3,4] a) => (T[2,6,4] y) <int64[2] p = {1, 2}, int64[1] x = {-2}> { y = Pad(a, p, , x) }"),
    "Pad, reflect": (
        '(T[2,4,5] a) => (T[2,7,8] y) <int64[6] p = {0, 1, 2, 0, 2, 1}> { y = Pad<mode="reflect">(a, p) }'
    ),
    "Pad, edge": '(T[2,4,5] a) => (T[3,7,8] y) <int64[6] p = {1, 1, 2, 0, 2, 1}> { y = Pad<mode="edge">(a, p) }',
    "Pad, wrap": '(T[2,4,5] a) => (T[2,7,8] y) <int64[6] p = {0, 1, 2, 0, 2, 1}> { y = Pad<mode="wrap">(a, p) }',
    "Tile": "(T[2,1,3] a) => (T[4,3,3] y) <int64[3] r = {2, 3, 1}> { y = Tile(a, r) }",
    "Trilu": "(T[2,3,4] a) => (T[2,3,4] y) { y = Trilu(a) }",
    "Trilu, lower": "(T[3,4] a) => (T[3,4] y) <int64 k = {1}> { y = Trilu<upper=0>(a, k) }",
    "ReverseSequence": ("(T[4,3,2] a) => (T[4,3,2] y) <int64[3] n = {1, 3, 4}> { y = ReverseSequence(a, n) }"),
    "DepthToSpace": "(T[2,8,2,3] a) => (T[2,2,4,6] y) { y = DepthToSpace<blocksize=2>(a) }",
    "DepthToSpace, CRD": '(T[2,8,2,3] a) => (T[2,2,4,6] y) { y = DepthToSpace<blocksize=2, mode="CRD">(a) }',
    "SpaceToDepth": "(T[2,2,4,6] a) => (T[2,8,2,3] y) { y = SpaceToDepth<blocksize=2>(a) }",
    "Gather, rows": "(T[5,3] a) => (T[2,3,3] y) <int64[2,3] i = {0, -1, 2, 2, 4, -5}> { y = Gather(a, i) }",
    "Gather, columns": "(T[2,5,3] a) => (T[2,4,3] y) <int64[4] i = {0, -1, 0, 2}> { y = Gather<axis=1>(a, i) }",
    "Gather, computed": (
        "(T[2,5] a) => (T[2,3] y) <int64[3] z = {4, 0, 4}> { i = Identity(z) y = Gather<axis=-1>(a, i) }"
    ),
    "GatherElements": (
        "(T[2,4] a) => (T[2,3] y) <int64[2,3] i = {0, -1, 0, 2, 2, -4}> { y = GatherElements<axis=1>(a, i) }"
    ),
    "GatherND": "(T[2,3,4] a) => (T[3,4] y) <int64[3,2] i = {0, -1, 1, 1, 0, 2}> { y = GatherND(a, i) }",
    "GatherND, batches": (
        "(T[2,3,4] a) => (T[2,2] y) <int64[2,2,2] i = {0, -1, 1, 1, 0, 2, 0, 2}> { y = GatherND<batch_dims=1>(a, i) }"
    ),
    "GatherND, computed": (
        "(T[2,3,4] a) => (T[2,2,4] y) <int64[2,2,1] z = {0, -1, 2, 2}> "
        "{ i = Identity(z) y = GatherND<batch_dims=1>(a, i) }"
    ),
    "ScatterElements": (
        "(T[2,4] a, T[2,2] u) => (T[2,4] y) <int64[2,2] i = {0, -1, 3, 1}> { y = ScatterElements<axis=1>(a, i, u) }"
    ),
    "ScatterElements, add": (
        "(T[4,2] a, T[3,2] u) => (T[4,2] y) <int64[3,2] i = {0, -1, 0, 1, 0, 1}> "
        '{ y = ScatterElements<reduction="add">(a, i, u) }'
    ),
    "ScatterND": "(T[4,3] a, T[2,3] u) => (T[4,3] y) <int64[2,1] i = {3, 1}> { y = ScatterND(a, i, u) }",
    "ScatterND, add": (
        '(T[4,3] a, T[2,3] u) => (T[4,3] y) <int64[2,1] i = {3, 3}> { y = ScatterND<reduction="add">(a, i, u) }'
    ),
    "TopK": "(T[3,6] a) => (T[3,2] y) <int64[1] k = {2}> { y, i = TopK(a, k) }",
    "TopK, smallest, axis": (
        "(T[5,3] a) => (T[2,3] y, int64[2,3] i) <int64[1] k = {2}> { y, i = TopK<axis=0, largest=0>(a, k) }"
    ),
}
OPSETS: dict[str, int] = {}
