"""What a board or the hub imports, seen from a fresh interpreter.

import-linter reads import statements; this sees what really gets loaded, through `__init__` files and
outside libraries too.
"""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

FRAMEWORKS = ("torch", "onnx", "onnx_ir", "onnxscript", "transformers", "optimum", "peft", "bitsandbytes")
NEVER = {
    "console": (*FRAMEWORKS, "onnxruntime", "numpy"),
    "wire": (*FRAMEWORKS, "onnxruntime"),
    "devices": (*FRAMEWORKS, "onnxruntime"),
    "hub": (*FRAMEWORKS, "onnxruntime"),
    "quant": (*FRAMEWORKS, "onnxruntime"),
    "edge": FRAMEWORKS,
}
# the doors to a forbidden library are the modules that may load it
DOORS = ("quant.bnb",)

PROBE = """
import importlib, json, sys
absent = []
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        absent.append([name, error.name])
print(json.dumps({"loaded": sorted({m.partition(".")[0] for m in sys.modules}), "absent": absent}))
"""


def modules(room: str) -> list[str]:
    """Every module of a room, found by walking its folder; `__main__` would run."""
    walked = (module.name for module in pkgutil.walk_packages([str(ROOT / room)], prefix=f"{room}."))
    return [room, *(name for name in walked if not name.endswith("__main__") and name not in DOORS)]


class Seen(NamedTuple):
    """What a fresh interpreter holds after some imports."""

    loaded: set[str]  # top-level modules
    absent: list[tuple[str, str]]  # (the module that was asked for, the one that it lacks)


def probe(names: list[str]) -> Seen:
    """Import the names in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    return Seen(set(answer["loaded"]), [(name, lost) for name, lost in answer["absent"]])


@pytest.mark.parametrize("room", NEVER)
def test_a_light_room_never_loads_a_framework(room: str) -> None:
    """Importing every module of a light room loads none of the libraries that are forbidden to it."""
    seen = probe(modules(room))

    # an extra that is not installed may be missing here; a module of our own may not
    assert not [(name, lost) for name, lost in seen.absent if lost.partition(".")[0] in NEVER]
    assert sorted(seen.loaded & set(NEVER[room])) == []


def test_the_command_loads_nothing_heavy() -> None:
    """`edgequilt --help` must answer at once, so importing the command loads not even numpy."""
    loaded = probe(["edgequilt"]).loaded

    assert sorted(loaded & {*FRAMEWORKS, "onnxruntime", "numpy", "rich", "paho"}) == []
    assert "console" in loaded


def test_the_probe_sees_a_framework_that_is_loaded() -> None:
    """The probe reports what was loaded: numpy, when it is asked to import numpy."""
    assert "numpy" in probe(["numpy"]).loaded
