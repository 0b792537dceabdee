"""What an agent imports on an arm64 board: wheels for the image's Python, unpacked on this machine, and our rooms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from console.toml import read_toml
from tests.conftest import ROOT
from tests.emulated.cache import kept

PYTHON, GLIBC = (3, 11), 36  # of the release that debian.py unpacks
CONSTRAINTS = ROOT / "constraints.txt"


def wheels() -> Path:
    """A folder for PYTHONPATH; made once for each set of versions."""
    project = read_toml(ROOT / "pyproject.toml")["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["edge"]]
    recipe = repr((wanted, CONSTRAINTS.read_text(), PYTHON, GLIBC))
    return kept("wheels", recipe, lambda folder: _fetch(folder, [w for w in wanted if "python_version <" not in w]))


def _fetch(folder: Path, wanted: list[str]) -> None:
    minor = "".join(map(str, PYTHON))
    tags = [f"manylinux_2_{glibc}_aarch64" for glibc in range(GLIBC, 16, -1)] + ["manylinux2014_aarch64"]
    told = ["--only-binary=:all:", "--no-compile", "--python-version", ".".join(map(str, PYTHON))]
    told += ["--implementation", "cp", "--abi", f"cp{minor}", "--abi", "abi3", "--abi", "none"]
    told += [word for tag in tags for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *told, "-c", str(CONSTRAINTS)]
    command += ["--target", str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
