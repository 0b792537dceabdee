"""The command: a table of verbs, each a function of some room, imported only when its verb is called."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from console.errors import EdgequiltError, MissingDependency, UsageError
from console.private import report_nothing

__version__ = "0.1.0"

ROOMS = ("console", "wire", "devices", "quant", "export", "edge", "hub", "sim")
INTERRUPTED = 130  # what a shell reports for a program that was ended by Ctrl-C
BROKEN_PIPE = 141  # the same, for a program whose reader has gone away


@dataclass(frozen=True)
class Verb:
    """Where a verb lives (`module:function`), the extra that brings its libraries, and one line of help.

    A verb of two words belongs to another room than the word that it begins with.
    """

    target: str
    extra: str
    help: str


VERBS = {
    "demo": Verb("sim.cli:main", "demo", "export, train on three boards, aggregate, compare: the whole way"),
    "export": Verb("export.cli:export", "export", "turn a model into one signed bundle per board"),
    "plan": Verb("export.cli_plan:plan", "export", "decide who of a fleet holds what of a model, and say why"),
    "inspect": Verb("export.cli_inspect:inspect", "export", "say what a bundle holds"),
    "verify": Verb("export.cli:verify", "export", "check a bundle: signature, digests, what it computes and takes"),
    "adapter": Verb("export.cli_adapter:main", "export", "convert an adapter for onnxruntime, PEFT or boards"),
    "quant": Verb("export.study.cli:main", "export", "study what each number format costs a model"),
    "key": Verb("wire.cli:key", "", "make a signing key"),
    "data": Verb("edge.cli_data:main", "edge", "say what a training run would see of a data file"),
    "run": Verb("edge.cli_run:main", "edge", "generate text with a bundle, label a sample, or put arrays through"),
    "train": Verb("edge.training.cli:train", "edge", "train an adapter on this machine, without a hub"),
    "install": Verb("devices.install.cli:main", "flash", "make a running board an agent, over SSH"),
    "release": Verb("devices.payload.cli:release", "flash", "pack a release of the agent, for a hub to give to boards"),
    "agent": Verb("edge.cli:main", "edge", "run the agent of a board"),
    "hub": Verb("hub.verbs.main:main", "hub", "run the hub, enrol devices, open rounds"),
    "flash": Verb("devices.flash.cli:flash", "flash", "put an agent into an image and write it onto a card"),
    "devices": Verb("devices.cli:main", "", "list the boards that edgequilt knows, show one"),
    "devices probe": Verb("edge.probe.cli:probe", "edge", "measure the board that this runs on"),
    "devices fits": Verb("export.cli_fits:fits", "export", "say which boards a model or a bundle fits"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code, see docs/exit-codes.md."""
    arguments = sys.argv[1:] if argv is None else argv
    report_nothing()
    try:
        code = run(arguments)
        sys.stdout.flush()
    except EdgequiltError as error:
        print(f"edgequilt: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the interpreter flushes once more at its end; that must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def run(arguments: list[str]) -> int:
    """Answer `--help` and `--version`, or hand the rest of the line to a verb.

    Raises:
        UsageError: there is no such verb.
        MissingDependency: the verb needs a library that is not installed.
    """
    if not arguments:
        print(usage(), file=sys.stderr)
        return UsageError.exit_code
    name, rest = _taken_apart(arguments)
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"edgequilt {__version__}")
        return 0
    if name == "completion":
        return completion(rest)
    try:
        return resolve(name)(rest)
    except ModuleNotFoundError as error:
        raise missing(name, error) from error


def _taken_apart(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb, of two words where there is such a one, and the rest of the line."""
    words = 2 if " ".join(arguments[:2]) in VERBS else 1
    return " ".join(arguments[:words]), arguments[words:]


def resolve(name: str) -> Callable[[list[str]], int]:
    """The function of a verb; importing its module is the first time its libraries are loaded."""
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "see edgequilt --help"
        raise UsageError(f"expected one of {', '.join(VERBS)}, found '{name}'; {hint}")
    module, function = VERBS[name].target.split(":")
    return cast("Callable[[list[str]], int]", getattr(importlib.import_module(module), function))


def completion(arguments: list[str]) -> int:
    """Print a completion script for a shell; verbs whose libraries are not here are completed by name."""
    from console.completion import parser, script

    shell = parser().parse_args(arguments).shell
    print(script(shell, "edgequilt", {name: (verb.help, _resolved(name)) for name, verb in VERBS.items()}))
    return 0


def _resolved(name: str) -> Callable[[list[str]], int] | None:
    try:
        return resolve(name)
    except ModuleNotFoundError:
        return None


def missing(name: str, error: ModuleNotFoundError) -> Exception:
    """What to say of a module that is not there: an outside library is an install away, ours is a bug."""
    library = (error.name or "").partition(".")[0]
    if not library or library in ROOMS:
        return error
    extra = VERBS[name].extra
    package = f"edgequilt[{extra}]" if extra else "edgequilt"
    return MissingDependency(f"edgequilt {name} needs '{library}': pip install '{package}'")


def usage() -> str:
    """The help page: a line per verb."""
    width = max(map(len, [*VERBS, "completion"]))
    lines = [f"  {name.ljust(width)}  {verb.help}" for name, verb in VERBS.items()]
    lines.append(f"  {'completion'.ljust(width)}  print a completion script for bash, zsh or tcsh")
    head = "usage: edgequilt VERB ... | --help | --version\n\n"
    return head + "\n".join(lines) + "\n\nedgequilt VERB --help says more."


if __name__ == "__main__":
    sys.exit(main())
