"""What a run is about: a model, rows for each board, a common test set, and the recipe.

One function per scenario turns options into a `Task` on disk; the rest of the run does not know scenarios. What a
user names is read and checked before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from console.progress import progress
from sim.cameras import digits, see, share_cameras
from sim.docstrings import docstring_rows
from sim.minilm import model_folder
from sim.pictures import png_bytes, write_pictures
from sim.recipes import CAMERAS, TEXT, Recipe
from sim.rows import Row, as_lines, labels_of, read_rows, write_rows
from sim.shares import Shares, share
from sim.vit import EPOCHS, HEAD_FILE, write_model

MINILM = "all-MiniLM-L6-v2"
SHOWN_DIGITS = 3


@dataclass(frozen=True)
class Task:
    """Everything that the run needs to know."""

    scenario: str
    name: str  # of the model, for people
    model: Path
    kind: str
    labels: tuple[str, ...]
    data: dict[str, Path]  # by board
    test: Path
    recipe: Recipe
    judged: bool  # learning is judged on built-in data and model only
    head: Path | None = None  # the head that the model came with, where it has one
    pictures: list[tuple[str, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TextInput:
    """A model and rows of text, checked; nothing is written yet."""

    name: str
    model: Path
    labels: tuple[str, ...]
    shares: Shares
    recipe: Recipe
    judged: bool
    note: str


def text_input(model: Path | None, data: Path | None, seed: int, quiet: bool) -> TextInput:
    """Sentences of Python's standard library, or the user's own rows, for an encoder of text.

    Raises:
        BadData: rows that cannot be used.
        IntegrityError, MissingDependency, StorageError: as sim.minilm.
    """
    judged = data is None and model is None
    rows = read_rows(data, TEXT.boards) if data is not None else _docstrings(quiet)
    train_rows, test_rows = (TEXT.train_rows, TEXT.test_rows) if data is None else (None, None)
    shares = share(rows, TEXT.boards, train_rows, test_rows, seed)
    recipe, name = TEXT, MINILM
    if model is not None:
        recipe, name = replace(TEXT, adapter_targets="auto"), model.resolve().name
    else:
        with progress(f"checking the weights of {MINILM}", 90e6, unit="bytes", quiet=quiet) as bar:
            model = model_folder(bar.advance)
    source = str(data) if data is not None else "sentences from the docstrings of Python's standard library"
    note = f"Rows: {source}. Which board holds which classes: {_holdings(shares.train)}."
    return TextInput(name, model, tuple(labels_of(rows)), shares, recipe, judged, note)


def text_task(folder: Path, given: TextInput) -> Task:
    """Write each board's rows and the test set."""
    paths = {board: _write(folder / "data" / f"{board}.jsonl", held) for board, held in given.shares.train.items()}
    test = _write(folder / "data" / "test.jsonl", given.shares.test)
    return Task(
        "text",
        given.name,
        given.model,
        "text-classification",
        given.labels,
        paths,
        test,
        given.recipe,
        given.judged,
        notes=[given.note],
    )


def cameras_task(folder: Path, seed: int, quiet: bool) -> Task:
    """Handwritten digits through three cameras, for a small vision model that is trained here on clean ones."""
    pictures = digits()
    with progress("training a small vision model on clean digits", EPOCHS, unit="epochs", quiet=quiet) as bar:
        model = write_model(folder / "model", pictures, seed, bar.advance)
    views = share_cameras(pictures, CAMERAS.boards, CAMERAS.train_rows, seed)
    paths = {board: write_pictures(folder / "data" / board, held) for board, held in views.train.items()}
    test = write_pictures(folder / "data" / "test", views.test)
    shown = [
        (
            f"{camera} {picture.label}",
            png_bytes(picture.pixels if camera == "clean" else see(camera, picture, seed).pixels, 4),
        )
        for picture in pictures[:SHOWN_DIGITS]
        for camera in ("clean", "blurred", "inverted", "rotated")
    ]
    held = ", ".join(f"{board}: {views.train[board][0].camera}" for board in CAMERAS.boards)
    notes = [f"The model learned clean digits; each board sees them through another camera ({held})."]
    labels = tuple(sorted({p.label for p in pictures}))
    return Task(
        "cameras",
        "digits-vit",
        model,
        "image-classification",
        labels,
        paths,
        test,
        CAMERAS,
        True,
        model / HEAD_FILE,
        shown,
        notes,
    )


def unadapted_weights(task: Task) -> tuple[np.ndarray, np.ndarray] | None:
    """Weight [D, C] and bias [C] of the head that the model came with, classes in the order of the labels."""
    if task.head is None:
        return None
    with np.load(task.head, allow_pickle=False) as stored:
        order = [list(stored["labels"]).index(label) for label in task.labels]
        return stored["weight"][:, order], stored["bias"][order]


def _docstrings(quiet: bool) -> list[Row]:
    with progress("reading the docstrings of the standard library", quiet=quiet):
        return docstring_rows()


def _write(path: Path, rows: list[Row]) -> Path:
    write_rows(path, as_lines(rows))
    return path


def _holdings(train: dict[str, list[Row]]) -> str:
    return "; ".join(f"{board}: {', '.join(labels_of(rows))}" for board, rows in train.items())
