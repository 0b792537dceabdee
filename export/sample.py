"""Real input to verify with: an .npz file with an array per input of the model."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import BadData, StorageError, join
from export.gradient.dims import shape_of

Array = NDArray[Any]


def read_sample(path: Path) -> dict[str, Array]:
    """The arrays of a file by name; nothing in it is unpickled.

    Raises:
        StorageError: it cannot be read.
        BadData: it is no .npz file, or holds something that is no array.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise BadData(f"expected an .npz file with an array per input at {path}, found a single array")
        with loaded as file:
            found = {name: np.asarray(file[name]) for name in file.files}
    except OSError as error:
        raise StorageError(
            f"expected an .npz file at {path}, found none that can be read ({error.strerror or 'cut off'})"
        ) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BadData(
            f"expected an .npz file with an array per input at {path}, found something else; "
            "write one with numpy.savez(FILE, INPUT=array)"
        ) from error
    if not found:
        raise BadData(f"expected an .npz file with an array per input at {path}, found nothing in it")
    return found


def check_sample(given: Mapping[str, Array], graph: ir.Graph, states: tuple[str, ...]) -> None:
    """Every array is one of an input, of its type and, but for the number of rows, its shape.

    Args:
        given: by name.
        graph: frozen.
        states: inputs that are never given: they begin with zeros.

    Raises:
        BadData: all that does not fit.
    """
    wanted = {str(v.name): v for v in graph.inputs if not v.is_initializer() and v.name not in states}
    problems = []
    for name, array in given.items():
        if name not in wanted:
            problems.append(f"{name!r}, where the model reads {', '.join(wanted)}")
            continue
        shape, dtype = list(shape_of(wanted[name]) or ()), wanted[name].dtype
        if array.ndim != len(shape) or list(array.shape[1:]) != shape[1:] or array.size == 0:
            problems.append(f"{name} of the shape {list(array.shape)}, where it is {['rows', *shape[1:]]}")
        if dtype is not None and array.dtype.kind != dtype.numpy().kind:
            problems.append(f"{name} of the type {array.dtype}, where it is {dtype.numpy()}")
    if problems:
        raise BadData(f"expected a sample of real input, found {join(problems)}")
