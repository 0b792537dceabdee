"""Adapters as onnxruntime's own file, `.onnx_adapter`: named tensors that a session takes as inputs of its graph.

`RunOptions.add_active_adapter` feeds every tensor of the file, and onnxruntime refuses names that the graph does not
have; so a file is of one segment. The format has no checksum, and does not say what model it is for: it is for
programs that use onnxruntime without edgequilt, and comes from adapters that were checked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from console.errors import BadData, join
from wire.adapter import Adapter
from wire.files import read_bytes, write_atomic
from wire.inputs import inputs_of
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.manifest import Manifest

SUFFIX = ".onnx_adapter"
VERSION = 1  # onnxruntime wants numbers for adapter and model and makes nothing of them

Tensors = dict[str, NDArray[Any]]


def tensors_of(manifest: Manifest, adapter: Adapter) -> dict[str, Tensors]:
    """What each segment's graphs are fed for an adapter; segments that take nothing of it are absent.

    Raises:
        BadData: the adapter is of another model, or empty.
    """
    fed = inputs_of(manifest, adapter)
    for slot in manifest.slots_of("lora"):
        if slot.a in fed and not fed[slot.a].size:  # rank 0: what the graph does by itself
            del fed[slot.a], fed[slot.b], fed[slot.scale]
    out: dict[str, Tensors] = {}
    for segment in manifest.segments:
        names = {tensor.name for graph in segment.graphs if graph.kind == "forward" for tensor in graph.inputs}
        own = {name: value for name, value in fed.items() if name in names}
        if own:
            out[segment.name] = own
    if not out:
        raise BadData(f"expected an adapter with factors, biases or a head for {manifest.model.id}, found an empty one")
    return out


def write_ort_adapter(manifest: Manifest, adapter: Adapter, out: Path) -> list[Path]:
    """Write an adapter for a bundle; the files.

    Args:
        manifest: the bundle's.
        adapter: what to write.
        out: a file where one segment takes something of it; else a folder, which gets `SEGMENT.onnx_adapter`.

    Raises:
        BadData: the adapter is of another model, or empty.
        StorageError: a file cannot be written.
    """
    by_segment = tensors_of(manifest, adapter)
    if len(by_segment) == 1:
        paths = dict.fromkeys(by_segment, out)
    else:
        paths = {segment: out / f"{segment}{SUFFIX}" for segment in by_segment}
    for segment, path in paths.items():
        write_atomic(path, _to_bytes(by_segment[segment]))
    return list(paths.values())


def _to_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a file; onnxruntime writes to a path only."""
    written = ort.AdapterFormat()
    written.set_adapter_version(VERSION)
    written.set_model_version(VERSION)
    values = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    written.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"it{SUFFIX}"
        written.export_adapter(str(path))
        return path.read_bytes()


def read_ort_adapters(files: Sequence[Path], manifest: Manifest) -> Adapter:
    """An adapter of a model from onnxruntime's files, one per segment.

    Raises:
        BadData: a file is none, or holds a tensor that no slot of the model has, or half of a slot; all at once.
        StorageError: a file cannot be read.
    """
    tensors: Tensors = {}
    for path in files:
        tensors |= _tensors(path)
    lora: dict[str, Lora] = {}
    bias: dict[str, NDArray[np.float32]] = {}
    problems: list[str] = []
    for slot in manifest.slots:
        if slot.kind == "bias" and slot.bias in tensors:
            bias[slot.name] = tensors.pop(slot.bias)
        elif slot.kind == "lora" and {slot.a, slot.b} & tensors.keys():
            a, b = tensors.pop(slot.a, None), tensors.pop(slot.b, None)
            scale = tensors.pop(slot.scale, np.ones((), np.float32))
            if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or scale.size != 1:
                problems.append(f"slot {slot.name} needs A [in, r], B [r, out] and scale []")
            else:
                lora[slot.name] = Lora(a, b, float(scale.reshape(())))
    head = _head(manifest, tensors, problems)
    problems += [f"no slot takes {name}" for name in tensors]
    if problems:
        where = ", ".join(str(path) for path in files)
        raise BadData(f"expected an adapter for {manifest.model.id} in {where}, but {join(problems)}")
    adapter = Adapter(manifest.model.id, lora=lora, bias=bias)
    return adapter if head is None else replace(adapter, heads={adapter.rank: head})


def _head(manifest: Manifest, tensors: Tensors, problems: list[str]) -> Head | None:
    names = None if manifest.head is None else (manifest.head.weight, manifest.head.bias)
    if names is None or not set(names) & tensors.keys():
        return None
    weight, bias = (tensors.pop(name, None) for name in names)
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != (weight.shape[1],):
        problems.append("the head needs weight [features, classes] and bias [classes]")
        return None
    return Head(weight, bias)


def _tensors(path: Path) -> Tensors:
    read_bytes(path, "an adapter file")  # says what is wrong with the path in our words
    try:
        parameters = ort.AdapterFormat.read_adapter(str(path)).get_parameters()
        found = {name: np.array(value.numpy()) for name, value in parameters.items()}
    except Exception as error:  # onnxruntime raises types of its own
        said = (str(error).splitlines() or [""])[0][:200]
        raise BadData(f"expected onnxruntime's adapter format in {path}, found something else ({said})") from error
    wild = [name for name, value in found.items() if value.dtype != np.float32 or not np.isfinite(value).all()]
    if wild:
        raise BadData(f"expected finite float32 tensors in {path}, found others: {join(wild)}")
    return found
