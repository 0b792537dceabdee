"""What one door for bytes from outside is, for those who try to break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.mutate import Bend


@dataclass(frozen=True)
class Case:
    """A door, open.

    Attributes:
        seeds: inputs that it takes.
        read: what is tried; it may raise subclasses of EdgequiltError and nothing else.
        write: what it gave as bytes again; reading those must give what writes the same bytes.
    """

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes] | None = None


@dataclass(frozen=True)
class Decoder:
    """A door, by name.

    Attributes:
        bend: how its inputs are bent.
        open: makes what it needs below an empty folder.
        memory_bytes: how much an input of at most 64 KiB may let the process grow.
        weight: its share of the inputs, against 1 of the others: what starts something heavy gets less.
    """

    name: str
    bend: Bend
    open: Callable[[Path], Case]
    memory_bytes: int = 64 << 20
    weight: float = 1.0


def of_bytes(
    name: str, bend: Bend, read: Callable[[bytes], Any], seeds: Callable[[], tuple[bytes, ...]], **more: Any
) -> Decoder:
    """A door that takes bytes."""
    write = more.pop("write", None)
    return Decoder(name, bend, lambda folder: Case(seeds(), read, write), **more)


def of_file(
    name: str,
    bend: Bend,
    file: str,
    read: Callable[[Path], Any],
    seeds: Callable[[Path], tuple[bytes, ...]],
    **more: Any,
) -> Decoder:
    """A door that takes the path of a file called `file`."""
    write = more.pop("write", None)

    def opened(folder: Path) -> Case:
        path, made = folder / file, seeds(folder)

        def there(data: bytes) -> Any:
            path.write_bytes(data)
            return read(path)

        return Case(made, there, write)

    return Decoder(name, bend, opened, **more)
