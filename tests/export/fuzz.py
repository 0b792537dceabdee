"""Bytes of valid files, changed; and what became of them: refused with a sentence, or computed as the original."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableSequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from console.errors import EdgequiltError
from export.apart import apart
from export.capture import capture
from export.fold import freeze
from export.write import write_graphs
from tests.export.runtime import Array

ROWS = 2
TOLERANCE = 1e-4


def mutated(data: bytes, seed: int) -> bytes:
    """A file with one to four changes: bits, bytes, ranges set, removed, doubled or moved, the end cut off."""
    rng = np.random.default_rng(seed)
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if out:
            at, other = (int(rng.integers(len(out))) for _ in range(2))
            _mutate(out, at, other, int(rng.integers(1, 17)), rng)
    return bytes(out)


def _mutate(out: bytearray, at: int, other: int, length: int, rng: np.random.Generator) -> None:
    kind = rng.integers(17)
    if kind < 4:
        out[at] ^= 1 << int(rng.integers(8))
    elif kind < 8:
        out[at] = (out[at] + int(rng.choice([-1, 1, 128]))) % 256
    elif kind < 10:
        out[at : at + length] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * length
    elif kind < 12:
        del out[at : at + length]
    elif kind < 16:
        out[at : at + length * int(kind % 2)] = out[other : other + length]
    else:
        del out[at:]


NUMBERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 7, 100, 1 << 20, 1 << 31, (1 << 63) - 1)
TEXTS = ("", "x", "y", "Relu", "MatMul", "Loop", "If", "Constant", "Reshape", "com.microsoft", "ai.onnx.ml", "\0")


def disturbed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """A model with one to three fields changed: numbers, names, entries of lists removed, doubled or swapped.

    What changed bytes seldom reach: files whose frame is whole and whose content is not.
    """
    rng = np.random.default_rng(seed)
    out = onnx.ModelProto()
    out.CopyFrom(model)
    for _ in range(rng.integers(1, 4)):
        places = list(_places(out))
        owner, name = places[int(rng.integers(len(places)))]
        _disturb(owner, name, rng)
    return out


def _places(message: Any) -> Iterator[tuple[Any, str]]:
    """Every field that is set, anywhere in a message."""
    for descriptor, value in message.ListFields():
        yield message, descriptor.name
        inner = value if isinstance(value, MutableSequence) else [value]
        for part in inner if descriptor.message_type else ():
            yield from _places(part)


def _disturb(owner: Any, name: str, rng: np.random.Generator) -> None:
    descriptor = owner.DESCRIPTOR.fields_by_name[name]
    value = getattr(owner, name)
    if isinstance(value, MutableSequence):
        at, other = (int(rng.integers(len(value))) for _ in range(2))
        kind = rng.integers(4)
        if kind == 0:
            del value[at]
        elif kind == 1 and descriptor.message_type:
            value.append(value[at])
        elif kind == 2 and descriptor.message_type:
            first, second = type(value[at]).FromString(value[at].SerializeToString()), value[other]
            value[at].CopyFrom(second)
            value[other].CopyFrom(first)
        elif not descriptor.message_type:
            value[at] = _other(value[at], rng)
        return
    if descriptor.message_type or rng.integers(5) == 0:
        owner.ClearField(name)
    else:
        with suppress(ValueError):  # a number that the field cannot hold
            setattr(owner, name, _other(value, rng))


def _other(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, float):
        return float(rng.choice([0.0, -1.0, 1e-30, 1e30, np.inf, np.nan]))
    if isinstance(value, int):
        return int(rng.choice(np.array(NUMBERS, np.int64))) if rng.integers(2) else value + int(rng.integers(-2, 3))
    text = str(rng.choice(np.array(TEXTS)))
    if isinstance(value, bytes):
        return mutated(value, int(rng.integers(1 << 30))) if rng.integers(2) else text.encode()
    return text


def outcome(path: Path, work: Path) -> str:
    """What an export makes of an ONNX file, short of planning: "same", or the sentence of the refusal.

    Raises:
        AssertionError: what comes out computes something else than the file, or the sentence is none.
    """
    try:
        captured = capture(str(path), "", work)
        batch = captured.batches[0] if captured.batches else ROWS
        frozen = freeze(captured.model, batch, None, captured.sizes)
        work.mkdir(exist_ok=True)
        write_graphs({"frozen": frozen}, work, "frozen.bin")
        inputs = {
            str(v.name): (list(v.shape or ()), v.dtype.numpy().name if v.dtype else "") for v in frozen.graph.inputs
        }
        found: dict[str, Any] = apart(lambda: _compared(path, work / "frozen.onnx", inputs))
    except EdgequiltError as error:
        sentence = str(error)
        assert "\n" not in sentence, sentence
        assert sentence.startswith(("expected", "cannot quantize")), sentence
        return sentence
    assert found["worst"] <= TOLERANCE, f"{path} computes something else: {found}"
    return "same"


def _compared(original: Path, ours: Path, inputs: dict[str, tuple[list[Any], str]]) -> dict[str, float]:
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for name, (shape, dtype) in inputs.items():
        drawn = rng.standard_normal([int(dim) for dim in shape])
        feeds[name] = drawn.astype(dtype)
    wanted, got = (_run(path, feeds) for path in (original, ours))
    worst = 0.0
    for name, value in wanted.items():
        other = got[name]
        if value.shape != other.shape:
            return {"worst": float("inf")}
        if value.dtype.kind in "fiub":
            a, b = value.astype(np.float64), other.astype(np.float64)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            scale = max(1.0, float(np.abs(a[np.isfinite(a)]).max(initial=0)))
            with np.errstate(all="ignore"):
                worst = max(
                    worst, float(np.where(same, 0, np.nan_to_num(np.abs(a - b), nan=1e9)).max(initial=0)) / scale
                )
    return {"worst": worst}


def _run(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {n: v for n, v in feeds.items() if n in known}), strict=True))


def misread(document: Any, seed: int) -> Any:
    """A JSON document with one to three entries changed, removed or of another type."""
    rng = np.random.default_rng(seed)
    out = json.loads(json.dumps(document))
    for _ in range(rng.integers(1, 4)):
        places = list(_entries(out))
        holder, key = places[int(rng.integers(len(places)))]
        if rng.integers(4) == 0:
            del holder[key]
        else:
            others: tuple[Any, ...] = (None, True, -1, 0, 1 << 70, 0.5, "", "../x", "segment0", [], {}, [[]], {"a": 1})
            holder[key] = others[int(rng.integers(len(others)))]
    return out


def _entries(document: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = document if isinstance(document, dict) else range(len(document))
    for key in list(keys):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _entries(document[key])
