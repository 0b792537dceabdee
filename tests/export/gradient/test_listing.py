from __future__ import annotations

from pathlib import Path

from tests.export.gradient.listing import table


def test_the_page_lists_every_rule() -> None:
    """docs/gradients.md has exactly the operators of the registry, with the formulas that their rules state."""
    page = (Path(__file__).parents[3] / "docs" / "gradients.md").read_text("utf-8")
    assert page.endswith("\n\n" + table())
