"""Everything that is wrong with one data file: told at once, and bounded however much it is."""

from __future__ import annotations

from pathlib import Path

from console.errors import BadData
from console.table import shown

KEPT = 100  # sentences that are remembered; beyond it they are counted
TOLD = 20  # sentences in one message


class Problems:
    """What was found wrong in a file so far.

    Args:
        path: the file or folder.
        parts: what somebody must mend: "lines", "files", "rows".
    """

    def __init__(self, path: Path, parts: str) -> None:
        self.path, self.parts = path, parts
        self.sentences: list[str] = []
        self.count = 0

    def add(self, where: str, what: str) -> None:
        """Note a problem: where it is, then what was expected and what was found."""
        self.count += 1
        if len(self.sentences) < KEPT:
            self.sentences.append(shown(f"{where}: {what}" if where else what))

    def refuse(self) -> None:
        """End here if there was any.

        Raises:
            BadData: naming the first of them, and how many more there are.
        """
        if not self.count:
            return
        told = "; ".join(self.sentences[:TOLD])
        hidden = self.count - min(self.count, TOLD)
        more = f"; and {hidden} more" if hidden else ""
        raise BadData(f"{self.path} cannot be used: {told}{more}; mend these {self.parts}")
