"""What a source of a number looks like: measured, emulated, of a data sheet, or unverified."""

from __future__ import annotations

SOURCE = r"(measured|emulated|data sheet): .+|unverified(: .+)?"
