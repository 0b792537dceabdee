"""Completion for shells: a script that knows every verb and option, made once by shtab from the verbs' own parsers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from console.arguments import Arguments, parser_of

SHELLS = ("bash", "zsh", "tcsh")
Main = Callable[[list[str]], int]


def parser(shells: tuple[str, ...] = SHELLS) -> Arguments:
    """The options of `edgequilt completion`."""
    made = Arguments(
        prog="edgequilt completion",
        description="Print a completion script. bash: edgequilt completion bash > "
        "~/.local/share/bash-completion/completions/edgequilt; zsh: put it as _edgequilt into a folder of $fpath.",
    )
    made.add_argument("shell", choices=shells)
    return made


def script(shell: str, prog: str, verbs: Mapping[str, tuple[str, Main | None]]) -> str:
    """The completion script of a command.

    Args:
        shell: one of SHELLS.
        prog: the command's name.
        verbs: per verb a line of help, and its function; None where its libraries are not installed here: such a
            verb is completed by name only. A verb of two words comes after the one that it begins with.
    """
    import shtab

    return shtab.complete(tree(prog, verbs), shell)


def tree(prog: str, verbs: Mapping[str, tuple[str, Main | None]]) -> argparse.ArgumentParser:
    """One parser above the parsers of all verbs."""
    import shtab

    root = Arguments(prog=prog)
    root.add_argument("--version", action="store_true", help="print the version")
    below = root.add_subparsers()
    for name, (text, main) in verbs.items():
        first, _, second = name.partition(" ")
        place = _verbs_of(below.choices[first]) if second else below
        found = None if main is None else parser_of(main)
        place.add_parser(second or first, help=text)
        if found is not None:
            place.choices[second or first] = found
            _complete_paths(found, shtab.FILE)
    return root


def _verbs_of(parser: argparse.ArgumentParser) -> Any:
    """Where a parser has its verbs; it gets a place for them if it has none, as one that is completed by name only."""
    actions = parser._actions  # noqa: SLF001  # argparse has no public list of what was added
    found = [action for action in actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    return found[0] if found else parser.add_subparsers()


def _complete_paths(found: argparse.ArgumentParser, how: object) -> None:
    """Offer files wherever a path is expected."""
    for action in found._actions:  # noqa: SLF001  # argparse has no public list of what was added
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # nor a name for this
            for one in action.choices.values():
                _complete_paths(one, how)
        elif action.type is Path:
            action.complete = how  # type: ignore[attr-defined]  # where shtab looks
