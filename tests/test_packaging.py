"""Our top-level names are ours alone, and a wheel holds what it should."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgequilt
from tests.conftest import ROOT

OURS = {*edgequilt.ROOMS, "edgequilt"}
HATCHLING = importlib.util.find_spec("hatchling") is not None


def test_no_other_distribution_has_our_names() -> None:
    """No installed distribution but ours holds a top-level module of our names; pip would overwrite ours."""
    owners = importlib.metadata.packages_distributions()

    shared = {name: owners[name] for name in OURS if set(owners.get(name, [])) - {"edgequilt"}}
    assert shared == {}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built without touching the network where hatchling is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-build-isolation"] if HATCHLING else []
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            *offline,
            "-w",
            str(folder),
            str(ROOT),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("edgequilt-*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.skipif(not HATCHLING, reason="hatchling is not installed; the heavy test fetches it")
def test_the_wheel_holds_every_room(wheel: zipfile.ZipFile) -> None:
    """Every module and every profile of the tree is in the wheel, and nothing else."""
    check_contents(wheel)


@pytest.mark.heavy
@pytest.mark.skipif(HATCHLING, reason="the fast test did it")
def test_the_wheel_holds_every_room_with_a_fetched_builder(wheel: zipfile.ZipFile) -> None:
    """The same, by a builder that pip fetches."""
    check_contents(wheel)


def check_contents(wheel: zipfile.ZipFile) -> None:
    """Compare a wheel's files with the tree's."""
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tree = {"edgequilt.py"}
    for room in edgequilt.ROOMS:
        tree |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / room).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert held == tree
    assert "devices/profiles/raspberry-pi-zero-2w.toml" in held
    assert {f"{room}/py.typed" for room in edgequilt.ROOMS} <= held


def test_the_version_is_said_once() -> None:
    """pyproject.toml takes its version from the command's file, so the two cannot differ."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    assert re.search(r"^dynamic = \[\"version\"\]$", text, re.MULTILINE)
    assert re.search(r"^version\s*=", text, re.MULTILINE) is None
    assert re.fullmatch(r"\d+\.\d+\.\d+", edgequilt.__version__)


def test_every_pin_satisfies_a_range_and_every_range_has_a_pin() -> None:
    """constraints.txt pins each direct dependency, once per Python version, inside pyproject.toml's range."""
    requirements = pytest.importorskip("packaging.requirements")
    direct = [requirements.Requirement(line) for line in declared()]
    pins = [
        requirements.Requirement(line)
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    for python in ("3.10", "3.11", "3.13"):
        environment = {"python_version": python, "sys_platform": "linux", "extra": ""}
        valid = {
            re.sub(r"[-_.]+", "-", pin.name).lower(): str(pin.specifier).removeprefix("==")
            for pin in pins
            if pin.marker is None or pin.marker.evaluate(environment)
        }
        for wanted in direct:
            if wanted.name != "edgequilt" and (wanted.marker is None or wanted.marker.evaluate(environment)):
                assert wanted.name in valid, f"no pin for {wanted.name} under Python {python}"
                assert wanted.specifier.contains(valid[wanted.name]), f"{wanted} pins {valid[wanted.name]}"


def declared() -> list[str]:
    """The requirements of pyproject.toml, core and extras."""
    from console.toml import read_toml

    project = read_toml(Path(ROOT / "pyproject.toml"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    core: list[str] = project["dependencies"]
    return core + [line for lines in extras.values() for line in lines]
