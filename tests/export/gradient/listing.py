"""The table of operators in docs/gradients.md, from the registry: `python -m tests.export.gradient.listing`."""

from __future__ import annotations

from export.gradient.registry import operators, registered
from export.gradient.sweep import FAMILIES


def table() -> str:
    """A row per operator: its file, the inputs that may have a gradient, and the first sentence of its rule."""
    lines = ["| operator | inputs | rule | file |", "|---|---|---|---|"]
    for name in operators():
        entry = registered(name)
        inputs = "all" if entry.inputs is None else ", ".join(map(str, sorted(entry.inputs)))
        text = (entry.products.__doc__ or "").strip().split("\n\n")
        formula = " ".join(part for block in text for part in block.split()).replace("|", "\\|")
        lines.append(f"| {name} | {inputs} | {formula} | `{entry.products.__module__.split('.')[-1]}.py` |")
    assert FAMILIES
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
