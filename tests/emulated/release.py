"""What an agent imports on an arm64 board: wheels for the image's Python, unpacked on this machine, and our rooms."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from console.toml import read_toml
from tests.conftest import ROOT
from tests.emulated.debian import CACHE

PYTHON, GLIBC = (3, 11), 36  # of the release that debian.py unpacks
ROOMS = ("console", "wire", "devices", "quant", "edge")


def wheels() -> Path:
    """A folder for PYTHONPATH; made once for each set of versions."""
    project = read_toml(ROOT / "pyproject.toml")["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["edge"]]
    constraints = ROOT / "constraints.txt"
    recipe = repr((wanted, constraints.read_text(), PYTHON, GLIBC))
    folder = CACHE / f"wheels-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    if not folder.exists():
        for old in CACHE.glob("wheels-*"):
            shutil.rmtree(old)
        making = CACHE / f"fetching-{os.getpid()}"
        try:
            _fetch(making, [w for w in wanted if "python_version <" not in w], constraints)
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return folder


def _fetch(folder: Path, wanted: list[str], constraints: Path) -> None:
    minor = "".join(map(str, PYTHON))
    tags = [f"manylinux_2_{glibc}_aarch64" for glibc in range(GLIBC, 16, -1)] + ["manylinux2014_aarch64"]
    told = ["--only-binary=:all:", "--no-compile", "--python-version", ".".join(map(str, PYTHON))]
    told += ["--implementation", "cp", "--abi", f"cp{minor}", "--abi", "abi3", "--abi", "none"]
    told += [word for tag in tags for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *told, "-c", str(constraints)]
    command += ["--target", str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
