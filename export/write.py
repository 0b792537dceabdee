"""Files of a bundle: graphs with one weight file per segment, golden values, the manifest last, all or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import onnx_ir as ir
import safetensors.numpy
from numpy.typing import NDArray

from console.errors import StorageError
from export.mapped import content, let_go
from export.values import in_memory
from wire.bundle import MANIFEST, SIGNATURE
from wire.envelope import detached
from wire.files import file_digest, sync_folder
from wire.keys import PrivateKey
from wire.manifest import File, Manifest, to_bytes

PAGE_BYTES = 4096  # so that a mapping of a large tensor begins where a page begins
PAGED_BYTES = 1 << 16  # what is smaller shares pages: scales and biases would be a hundredth more of a file of int8
ALIGNED_BYTES = 64  # of every tensor
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)  # no more can be written here, whatever it is
INLINE_BYTES = 1024  # smaller tensors stay in the graph


def write_graphs(models: Mapping[str, ir.Model], folder: Path, weights: str) -> None:
    """Write `NAME.onnx` for every model and one file with the weights of all of them, not yet durably.

    Equal tensors are written once, whatever their names. The models refer to the file afterwards.

    Args:
        models: by file name without suffix; their initializers are replaced by references.
        folder: where to.
        weights: name of the weight file; it is written even if it stays empty.

    Raises:
        StorageError: the folder cannot be written.
    """
    places: dict[str, tuple[int, int]] = {}
    with storing(folder), (folder / weights).open("wb") as file:
        for value in (v for model in models.values() for graph in model.graphs() for v in graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or value.is_graph_input():
                continue
            small = tensor.nbytes <= INLINE_BYTES
            value.const_value = in_memory(tensor) if small else _place(tensor, file, places, folder, weights)
    for name, model in models.items():
        data = ir.to_proto(model).SerializeToString(deterministic=True)
        with storing(folder):
            (folder / f"{name}.onnx").write_bytes(data)


def _place(
    tensor: ir.TensorProtocol, file: Any, places: dict[str, tuple[int, int]], folder: Path, weights: str
) -> ir.ExternalTensor:
    data = content(tensor)
    key = hashlib.sha256(data).hexdigest()
    if key not in places:
        border = PAGE_BYTES if len(data) >= PAGED_BYTES else ALIGNED_BYTES
        file.write(b"\0" * (-file.tell() % border))
        places[key] = (file.tell(), len(data))
        file.write(data)
    let_go(tensor)
    offset, length = places[key]
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(
        weights, offset, length, tensor.dtype, shape=shape, name=tensor.name or "", base_dir=folder
    )


def write_golden(path: Path, feeds: Mapping[str, NDArray[Any]], fetches: Mapping[str, NDArray[Any]]) -> None:
    """Input and output of a chain in one safetensors file: `feed/NAME` and `fetch/NAME`."""
    tensors = {f"feed/{name}": np.array(value, order="C") for name, value in feeds.items()}
    tensors |= {f"fetch/{name}": np.array(value, order="C") for name, value in fetches.items()}
    write_synced(path, safetensors.numpy.save(dict(sorted(tensors.items()))))


def read_golden(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Feeds and fetches of a golden file."""
    tensors = safetensors.numpy.load_file(path)
    feeds = {name.removeprefix("feed/"): value for name, value in tensors.items() if name.startswith("feed/")}
    fetches = {name.removeprefix("fetch/"): value for name, value in tensors.items() if name.startswith("fetch/")}
    return feeds, fetches


def describe_files(
    folder: Path, names: Sequence[str], advance: Callable[[int], None] = lambda n: None
) -> tuple[File, ...]:
    """Length and SHA-256 of files of a folder."""
    return tuple(File(name, (folder / name).stat().st_size, file_digest(folder / name, advance)) for name in names)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well, and is gone otherwise.

    Raises:
        StorageError: the folder above cannot be written, or something that is no folder is in the way.
    """
    with storing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_dir():
            raise StorageError(f"expected a folder or nothing at {target}, found a file; move it away")
    folder = target.with_name(f".{target.name}.{token_hex(4)}")
    try:
        with storing(target.parent):
            folder.mkdir()
        yield folder
        with storing(target.parent):
            sync_folder(folder)
            _exchange(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(folder: Path, target: Path) -> None:
    """Put `folder` at `target`; what was there stays until the new one is complete, and comes back on failure."""
    old = folder.with_name(folder.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def seal_bundle(folder: Path, manifest: Manifest, key: PrivateKey) -> None:
    """The signature, then the manifest: a folder with a manifest is a whole bundle."""
    body = to_bytes(manifest)
    write_synced(folder / SIGNATURE, detached(key, body))
    write_synced(folder / MANIFEST, body)


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file and make it durable.

    Raises:
        StorageError: the disk is full, or one of the two cannot be reached.
    """
    with storing(target.parent):
        shutil.copyfile(source, target)
        with target.open("rb+") as file:
            _sync(file)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file into a folder that nobody reads yet, and make it durable.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    with storing(path.parent), path.open("wb") as file:
        file.write(data)
        _sync(file)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """What the system says of a file becomes a sentence.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"expected to write into {folder}, stopped ({_said(error)}); free some space or choose another --out"
        ) from error


def _said(error: OSError) -> str:
    where = "" if error.filename is None or error.errno in FULL else f": {error.filename}"
    return f"{error.strerror or error}{where}"
