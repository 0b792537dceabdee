"""How large an image may become, and whose limit that is: a card's, or --max-size."""

from __future__ import annotations

from dataclasses import dataclass

from console.errors import DoesNotFit
from console.table import mib


@dataclass(frozen=True)
class Limit:
    """Most that an image may become.

    Attributes:
        bytes: of it.
        whose: `--max-size`, or a card.
    """

    bytes: int
    whose: str = "--max-size"

    def require(self, size: int, what: str = "an image", *, so_far: bool = False) -> None:
        """Refuse more; both sizes are named.

        Args:
            size: of what was found.
            what: it is.
            so_far: whether there may be more of it.

        Raises:
            DoesNotFit: it is larger.
        """
        if size > self.bytes:
            more = " or more" if so_far else ""
            raise DoesNotFit(
                f"expected {what} of at most {mib(self.bytes)} ({self.whose}), found one of {mib(size)}{more}; take a "
                "larger card or another image"
            )
