"""Which door a file or folder is for, and the rows behind it: the one place that training, agents and checks enter.

| what lies there | format |
|---|---|
| a folder | a folder per class, of pictures or WAV files; for models that take texts, files of JSONL and CSV |
| `.npz` | arrays |
| `.csv`, `.tsv` | CSV |
| any other file | JSONL |

For models that learn to go on, JSONL and CSV need no labels, and a `.txt` holds a text per line (`edge.data.texts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from console.errors import BadData
from edge.data.csv_file import read_csv
from edge.data.files import read_files
from edge.data.folder import read_folder
from edge.data.jsonl import read_jsonl
from edge.data.problems import Problems
from edge.data.row import Data, Row, is_held_out
from edge.data.texts import found_passages
from edge.data.wanted import Found, Wanted, wanted_by
from edge.data.wav import read_wave, sound_length
from wire.files import is_file
from wire.manifest import Manifest

Read = Callable[[Path, Wanted, Problems], Iterator[Found]]
Take = Callable[[Found], None]


@dataclass(frozen=True)
class Format:
    """A format: its name, how it is read, what a broken one has to mend, and what makes a row of it."""

    name: str
    read: Read
    parts: str
    hint: str


def open_data(path: Path, manifest: Manifest, holdout: float) -> Data:
    """The rows of a file or folder that a bundle learns from.

    Args:
        path: where the data lies.
        manifest: of the bundle: its labels, what kind of sample it takes, and its inputs.
        holdout: share of rows to keep back, 0 to 1.

    Raises:
        StorageError: it cannot be read.
        BadData: naming everything in it that is broken or has an unknown label, or that there is no row.
    """
    return _kept(path, wanted_by(manifest), holdout)


def count_data(path: Path, manifest: Manifest) -> int:
    """The number of rows, after all checks that need neither numpy nor Pillow, and without keeping any.

    Raises:
        StorageError, BadData: see `open_data`.
    """
    return _counted(path, wanted_by(manifest), thorough=False)


def read_data(path: Path, labels: Sequence[str], kind: str, holdout: float) -> Data:
    """As `open_data`, for a model of texts or pictures that is known by its labels and its kind.

    Raises:
        StorageError, BadData: see `open_data`.
    """
    return _kept(path, Wanted(tuple(labels), kind), holdout)


def format_of(path: Path, wanted: Wanted) -> Format:
    """The format of a file or folder.

    Raises:
        BadData: it is one of another kind of model.
    """
    suffix = path.suffix.lower()
    if wanted.passages:
        return _of_passages(path, suffix)
    if path.is_dir():
        if wanted.kind == "text":
            return Format("folder of files", read_files, "files", "put files of JSONL or CSV into it")
        if wanted.kind == "tensors":
            sound_length(wanted.inputs)
        what = "image folder" if wanted.kind == "image" else "WAV folder"
        return Format(what, read_folder, "files", "make a folder per class with files in it")
    if suffix == ".npz":
        if wanted.kind != "tensors":
            raise BadData(f"expected {wanted.column}s for this bundle, found arrays in {path}")
        from edge.data.npz import read_npz

        return Format("NPZ", read_npz, "rows", "save an array per input and one of labels")
    if suffix == ".txt":
        raise BadData(f"expected rows with labels, found lines of text in {path}; write CSV or JSONL with 'label'")
    if suffix in (".csv", ".tsv"):
        return Format("CSV", read_csv, "lines", f"write a header {wanted.column},label and a line per row")
    return Format("JSONL", read_jsonl, "lines", "write one JSON object per line")


def _of_passages(path: Path, suffix: str) -> Format:
    if path.is_dir():
        return Format("folder of files", read_files, "files", "put files of lines, JSONL or CSV into it")
    name = {".txt": "text", ".csv": "CSV", ".tsv": "CSV"}.get(suffix, "JSONL")
    return Format(name, found_passages, "lines", 'write a text per line, or {"text": ...} in JSONL')


def rows_of(path: Path, wanted: Wanted, problems: Problems, *, thorough: bool) -> Iterator[Found]:
    """Rows that are right; what is wrong with the others is added to the problems.

    Args:
        path: the file or folder.
        wanted: what the model wants.
        problems: where to note what is wrong.
        thorough: whether the header of every picture is read, which needs Pillow.

    Raises:
        StorageError: it cannot be read.
        BadData: it is of another kind.
    """
    form, rates = format_of(path, wanted), set[int]()
    for found in form.read(path, wanted, problems):
        wrong = wanted.unknown(found.label) or _unreadable(found.sample, wanted, rates, thorough=thorough)
        if wrong is None:
            yield found
        else:
            problems.add(found.where, wrong)


def _unreadable(sample: object, wanted: Wanted, rates: set[int], *, thorough: bool) -> str | None:
    """What is wrong with the file that a row names; nothing where it names none. `rates` are those of sounds so far."""
    if not isinstance(sample, Path):
        return None
    if not is_file(sample):
        return f"expected a file, found none at {sample.name[:80]}"
    if wanted.kind == "image":
        if not thorough:
            return None
        from wire.image import size_of

        picture = size_of(sample)
        return picture if isinstance(picture, str) else None
    try:
        return _unheard(sample, wanted, rates) if sample.suffix != ".npz" else None
    except BadData as error:
        return str(error)


def _unheard(sample: Path, wanted: Wanted, rates: set[int]) -> str | None:
    sound_length(wanted.inputs)
    rate = read_wave(sample).rate
    if wanted.rate is None and rates and rate not in rates:
        before = ", ".join(map(str, rates))
        return f"expected {before} Hz, as files before it, since the bundle names no sampling rate, found {rate} Hz"
    rates.add(rate)
    return None


def _kept(path: Path, wanted: Wanted, holdout: float) -> Data:
    classes = wanted.classes
    kept: tuple[list[Row], list[Row]] = ([], [])

    def take(found: Found) -> None:
        kept[is_held_out(found.key, found.label, holdout)].append(Row(found.sample, classes[found.label]))

    _counted(path, wanted, take, thorough=True)
    return Data(tuple(kept[0]), tuple(kept[1]))


def _counted(path: Path, wanted: Wanted, take: Take = lambda found: None, *, thorough: bool) -> int:
    form = format_of(path, wanted)
    problems, count = Problems(path, form.parts), 0
    for found in rows_of(path, wanted, problems, thorough=thorough):
        take(found)
        count += 1
    problems.refuse()
    if not count:
        raise BadData(f"expected rows in {path}, found none; {form.hint}")
    return count
