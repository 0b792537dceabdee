"""Tensors cross in as many bits as were asked for, and what comes is what was expected or a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from console.errors import BadData
from wire.activations import CODINGS, Coding, pack_tensors, unpack_tensors
from wire.manifest import Tensor

FLOATS = hn.arrays(
    np.float32,
    hn.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(-(2.0**90), 2.0**90, width=32, allow_nan=False),
)


@pytest.mark.parametrize("coding", CODINGS)
@settings(max_examples=60, deadline=None)
@example(array=np.array([[155, -154], [60, 1], [190, 64]], np.float32) * np.float32(2.0**-149))  # scales round, too
@given(array=FLOATS)
def test_an_error_is_within_what_the_coding_promises(coding: Coding, array: np.ndarray) -> None:
    """Of each row, against its largest number: none, 2^-11 of it or 1/254 of it."""
    expected = [Tensor("x", "float32", array.shape)]
    found = unpack_tensors(pack_tensors({"x": array}, {"x": coding}), expected)["x"]
    most = np.abs(array.astype(np.float64)).max(axis=-1, keepdims=True)
    share = {"float32": 0.0, "float16": 2.0**-10, "int8": 1 / 254 * 1.0001}[coding]
    assert np.all(np.abs(found.astype(np.float64) - array) <= share * most + 2.0**-149)


def test_a_byte_for_a_number() -> None:
    """Rows of 384 take a quarter of float32 and four bytes more each; what is not named goes as it is."""
    mask: Any = np.array([[0, -np.inf]], np.float32)
    made = {"x": np.ones((8, 64, 384), np.float32), "mask": mask, "ids": np.arange(3)}
    data = pack_tensors(made, {"x": "int8"})
    assert len(data) < 8 * 64 * (384 + 4) + 100
    expected = [Tensor("x", "float32", (8, 64, 384)), Tensor("mask", "float32", (1, 2)), Tensor("ids", "int64", (3,))]
    found = unpack_tensors(data, expected)
    assert found["mask"].tolist() == [[0, -np.inf]]
    assert found["ids"].tolist() == [0, 1, 2]
    assert found["ids"].dtype == np.int64


@pytest.mark.parametrize("coding", ["float16", "int8"])
def test_masked_scores_take_nothing_from_the_others(coding: Coding) -> None:
    """A row with numbers at float32's end: these come back there, the others as precise as without them."""
    row = np.array([[0.5, -2.0, np.finfo(np.float32).min, -np.inf, 1.0]], np.float32)
    found = unpack_tensors(pack_tensors({"x": row}, {"x": coding}), [Tensor("x", "float32", (1, 5))])["x"]
    assert found[0, 2] == found[0, 3] == np.finfo(np.float32).min
    assert np.allclose(found[0, [0, 1, 4]], [0.5, -2.0, 1.0], atol=2 / 254)


def test_what_is_no_number_is_not_coded() -> None:
    """An infinite activation is a sentence before it is sent."""
    with pytest.raises(BadData, match="expected finite numbers in x"):
        pack_tensors({"x": np.array([np.nan], np.float32)}, {"x": "float16"})


def test_other_tensors_are_refused() -> None:
    """Another name, another length, a type that may not be coded, a scale that is no number."""
    data = pack_tensors({"x": np.ones((2, 2), np.float32)}, {"x": "int8"})
    for expected, words in (
        ([Tensor("y", "float32", (2, 2))], "expected the tensors y, found x"),
        ([Tensor("x", "float32", (2, 3))], "expected .* bytes of tensors or more"),
        ([Tensor("x", "float32", (1, 2))], "expected .* bytes of x, found"),
        ([Tensor("x", "int64", (2, 2))], "expected x as it is"),
    ):
        with pytest.raises(BadData, match=words):
            unpack_tensors(data, expected)
    bent = bytearray(data)
    bent[-12:-4] = np.array([np.inf, 1], "<f4").tobytes()
    with pytest.raises(BadData, match="expected finite numbers in x"):
        unpack_tensors(bytes(bent), [Tensor("x", "float32", (2, 2))])
    with pytest.raises(BadData, match="cut short"):
        unpack_tensors(data[:6], [Tensor("x", "float32", (2, 2))])
