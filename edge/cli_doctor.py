"""`edgequilt agent doctor`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from console.table import shown

MARKS = {"ok": "ok", "unknown": "?", "warning": "warning", "problem": "PROBLEM"}


def doctor(given: argparse.Namespace) -> int:
    """Look for the usual troubles and say how to mend each; the exit code is that of the first problem's class."""
    from edge.doctor.board import Board
    from edge.doctor.table import CHECKS, examine, exit_code

    width, found = max(len(check.name) for check in CHECKS), []
    for check, finding in examine(Board(given.config, Path(given.root))):
        found.append((check, finding))
        if not given.json and (given.all or finding.level != "unknown"):
            print(f"{check.name.ljust(width)}  {MARKS[finding.level]:8} {shown(finding.says)}", flush=True)
            if finding.mend:
                print(f"{'':{width}}  {'':8} → {finding.mend}")
    code = exit_code(found)
    if given.json:
        rows = [{"check": check.name, **finding._asdict()} for check, finding in found]
        json.dump({"checks": rows, "exit_code": code}, sys.stdout, indent=1, ensure_ascii=False)
        print()
    return code
