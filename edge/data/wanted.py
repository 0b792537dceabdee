"""What a model wants to be fed with, as far as a data file must know it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import BadData
from wire.manifest import Manifest, Tensor

COLUMNS = {"text": ("text",), "image": ("image",), "tensors": ("sound", "arrays")}


@dataclass(frozen=True)
class Wanted:
    """Labels, in order, and the kind of sample: "text", "image" or "tensors".

    Attributes:
        inputs: what the model takes; only arrays and sounds are compared with it.
        rate: samples per second that a model of sounds is made for; None where the bundle does not say.
        passages: whether it learns to go on with texts (`edge.data.texts`); then there are no labels.
    """

    labels: tuple[str, ...]
    kind: str
    inputs: tuple[Tensor, ...] = ()
    rate: int | None = None
    passages: bool = False

    @property
    def classes(self) -> dict[str, int]:
        """The index of every label; all texts that have none are of one class."""
        return {label: index for index, label in enumerate(("",) if self.passages else self.labels)}

    @property
    def column(self) -> str:
        """The field beside `label` that holds a text or a path."""
        return COLUMNS[self.kind][0]

    @property
    def columns(self) -> tuple[str, ...]:
        """All fields of which a line of JSON may have one: `arrays` is the path of an NPZ file of one row."""
        return COLUMNS[self.kind]

    def unknown(self, label: str) -> str | None:
        """What is wrong with a label, if anything."""
        if self.passages or label in self.labels:
            return None
        some = ", ".join(self.labels[:12]) + (", ..." if len(self.labels) > 12 else "")
        return f"unknown label {label[:40]!r}, expected one of {some}"


@dataclass(frozen=True)
class Found:
    """A row as it lies in a file.

    Attributes:
        where: a line, a file or a row, as a person finds it again.
        sample: a text, a path, arrays by input name, or a passage.
        label: its class, by name; empty for a passage.
        key: what stands for the sample where rows are kept back or compared: the text, the path in the folder, or
            the SHA-256 of the arrays.
    """

    where: str
    sample: Any
    label: str
    key: str


PASSAGES = Wanted((), "text", passages=True)


def wanted_by(manifest: Manifest) -> Wanted:
    """What a bundle wants: rows with labels, or of a decoder that learns, texts.

    Raises:
        BadData: it knows no labels.
    """
    if manifest.loss is not None:
        return PASSAGES
    if not manifest.labels:
        raise BadData("expected a bundle with labels, found none; export with --labels or --data")
    rate = manifest.preprocess.parameters.get("sampling_rate")
    kind = manifest.preprocess.kind
    return Wanted(manifest.labels, kind, manifest.inputs, int(rate) if isinstance(rate, (int, float)) else None)


def sample_of(content: str, folder: Path, wanted: Wanted) -> Any:
    """The sample that a line names: its text, or a path below the file's folder."""
    return content if wanted.kind == "text" else folder / content
