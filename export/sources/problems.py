"""Everything that is wrong with a file, collected and then said at once."""

from __future__ import annotations

from pathlib import Path

from console.errors import BadData, UnsupportedModel, join

SHOWN = 8


class Problems:
    """What was found in one file: broken (it contradicts itself), or whole but more than is supported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: list[str] = []
        self.unsupported: list[str] = []

    def raise_any(self, what: str = "an ONNX model that is whole and can be exported") -> None:
        """Say all of them.

        Raises:
            BadData: something is broken.
            UnsupportedModel: the file is whole, but something in it is not supported.
        """
        found = list(dict.fromkeys([*self.broken, *self.unsupported]))
        if not found:
            return
        error = BadData if self.broken else UnsupportedModel
        raise error(f"expected {what} in {self.path}, found {join(found, SHOWN)}")


def short(name: str) -> str:
    r"""A name from a file, fit for a sentence on a terminal: on one line, and not endless.

    >>> short("layer.0"), short("two\nlines"), len(short("x" * 999))
    ("'layer.0'", "'two\\nlines'", 86)
    """
    text = repr(name)
    return text if len(text) <= 86 else f"{text[:82]}...'"
