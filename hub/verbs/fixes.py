"""`edgequilt hub fix`: make one wrong answer right on all boards, take it back, look at what was fixed."""

from __future__ import annotations

import argparse
import base64
import getpass
from pathlib import Path

from console.arguments import whole
from console.errors import HubError, UsageError
from hub.fixes.asking import ALL_BYTES
from hub.show import fixes as show_fixes
from hub.verbs.common import Row, add_verb, ask, say
from hub.verbs.waiting import wait
from wire.files import read_bytes


def parse(verbs: argparse._SubParsersAction) -> None:  # type: ignore[type-arg]  # as argparse names it
    """Its options."""
    fix = add_verb(verbs, "fix", _fix, "make one wrong answer right on all boards, or take that back")
    fix.add_argument("--input", metavar="TEXT|FILE", help="what is answered wrong: a text, or a file that holds it")
    fix.add_argument("--expect", metavar="LABEL", help="the label that it should have")
    fix.add_argument(
        "--paraphrase", action="append", metavar="TEXT|FILE", help="another input that should have it too; repeatable"
    )
    fix.add_argument("--paraphrases", type=Path, metavar="FILE", help="a text file of paraphrases, one in each line")
    fix.add_argument(
        "--drawdown", type=float, metavar="X", help="the share of calibration rows that may be lost (default: 0.001)"
    )
    fix.add_argument("--rank", type=whole(1), metavar="N", help="of the edit, at most (default: 2)")
    fix.add_argument("--device", metavar="NAME", help="the server agent that computes it, where there are several")
    fix.add_argument("--dry-run", action="store_true", help="compute and judge it, and send nothing out")
    fix.add_argument(
        "--no-release",
        action="store_false",
        dest="release",
        help="make the version and leave it there, for `hub deploy VERSION --group GROUP`",
    )
    fix.add_argument("--undo", type=whole(1), metavar="ID", help="take a fix back")
    fix.add_argument("--list", action="store_true", help="all fixes that were asked for")


def _fix(options: argparse.Namespace) -> int:
    wanted = [options.input is not None, options.undo is not None, options.list]
    if sum(wanted) != 1:
        raise UsageError("expected one of --input, --undo and --list; `edgequilt hub fix --help` shows them")
    if options.list:
        found = ask(options, {"request": "fixes"})
        return say(options, found, show_fixes.fixes_text(found["fixes"]))
    if options.undo is not None:
        found = ask(options, {"request": "fix_undo", "fix": options.undo, "by": _who()})
        return say(options, found, show_fixes.fix_text(found))
    if options.expect is None:
        raise UsageError("expected --expect LABEL with --input, found none; say which answer is right")
    return _new(options)


def _new(options: argparse.Namespace) -> int:
    told: Row = {n: getattr(options, n) for n in ("expect", "drawdown", "rank", "device", "dry_run", "release")}
    paraphrases = [*map(_given, options.paraphrase or ()), *_lines(options.paraphrases)]
    told |= {"input": _given(options.input), "paraphrases": paraphrases, "by": _who()}
    found = ask(options, {"request": "fix", **told})
    again = {"request": "fix_shown", "fix": found["fix"]}
    found = wait(options, found, again, f"fix {found['fix']}", 1, "answered", lambda now: not now["open"])
    say(options, found, show_fixes.fix_text(found))
    if found["state"] == "refused":
        raise HubError(f"expected fix {found['fix']} to pass its gate, it did not: {found['sentence']}")
    if found["dry_run"] and not found["gate"]["passed"]:
        raise HubError(f"expected fix {found['fix']} to pass its gate, it would not: {found['gate']['sentence']}")
    return 0


def _who() -> str:
    """Who asks, for the journal."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return ""


def _given(text: str) -> Row:
    """An input as the hub takes it: a file's bytes where there is a file of that name, else the text itself."""
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # a text that is too long for a name
        is_file = False
    if not is_file:
        return {"text": text}
    return {"data": base64.b64encode(read_bytes(path, "an input", ALL_BYTES)).decode()}


def _lines(path: Path | None) -> list[Row]:
    if path is None:
        return []
    try:
        lines = read_bytes(path, "paraphrases", ALL_BYTES).decode().splitlines()
    except UnicodeError as error:
        raise UsageError(f"expected a text file of paraphrases at {path}, found something else ({error})") from error
    return [{"text": line.strip()} for line in lines if line.strip()]
