"""Libraries that report to their makers are told not to, before they are loaded: we speak to our own hub alone.

onnxruntime does so on Linux since 1.29 (docs/Privacy.md of its sources): it keeps a number of the machine below
~/.cache, and a file that cannot be written, as for a service without a home, is a complaint in the log at each start.
"""

from __future__ import annotations

import os

SILENT = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def report_nothing() -> None:
    """Say so to this process and its children; who has set one of them otherwise is obeyed."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
