"""A profile as TOML, as those that come with edgequilt are written; `devices.profile.parse` reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.toml_text import toml_line
from devices.profile import Profile
from wire.record import plain

TABLES = ("accelerator", "sources")  # a heading of their own


def profile_text(profile: Profile, head: str = "") -> str:
    """All of it, also what this version does not know.

    Args:
        profile: whose absent fields are left out.
        head: comments to begin with.

    Raises:
        BadData: an unknown field is no plain value.
    """
    fields = {name: value for name, value in plain(profile).items() if value is not None}
    latency = fields.pop("latency", None)
    tables = {name: fields.pop(name) for name in TABLES if name in fields}
    lines = [toml_line(name, value) for name, value in fields.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_lines(table)]
    if latency is not None:
        curves = latency.pop("curves")
        lines += ["", "[latency]", *_lines(latency)]
        for curve in curves:
            lines += ["", "[[latency.curves]]", *_lines(curve)]
    return head + "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [toml_line(name, value) for name, value in table.items()]
