"""Which wheels a board gets. The oracle of tags is PyPA's `packaging`, which knows them by another way than we do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("packaging")

from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from console.errors import DoesNotFit, IntegrityError, StorageError, UsageError
from devices.payload.needs import TESTED, Node, limits, needs, reached
from devices.payload.target import Target, target_of
from devices.payload.unpacked import unpack
from devices.payload.wheelhouse import Wheel, wheels_for
from devices.profile import load, names
from tests.conftest import ROOT
from tests.devices.payload.houses import house, tiny
from wire.files import file_digest

BOOKWORM, JETPACK, TRIXIE = Target("3.11", "2.36"), Target("3.10", "2.35"), Target("3.13", "2.41")
BOARDS = {"bookworm": BOOKWORM, "jetpack 6": JETPACK, "trixie": TRIXIE}


def versions(target: Target, folder: Path, profile: str | None = None) -> dict[str, str]:
    """What is chosen from a folder, by name."""
    found = wheels_for(target, None if profile is None else load(profile), folder)
    return {wheel.name: wheel.version for wheel in found}


@pytest.mark.parametrize("target", BOARDS.values(), ids=BOARDS)
def test_every_need_is_answered_offline(target: Target, tmp_path: Path) -> None:
    """From a folder with one wheel per need, each need is answered, by that wheel, without the network."""
    found = wheels_for(target, None, house(tmp_path, target))

    assert {wheel.name for wheel in found} == {Requirement(need).name for need in needs(target)}
    assert all(wheel.path.parent == tmp_path and file_digest(wheel.path) == wheel.sha256 for wheel in found)


def test_a_board_needs_no_framework() -> None:
    """What an agent needs has the runtime and the connection in it, and neither torch nor a hub's libraries."""
    names = {Requirement(need).name for need in needs(BOOKWORM)}

    assert {"onnxruntime", "numpy", "paho-mqtt", "cryptography"} <= names
    assert not names & {"torch", "onnx", "transformers", "sqlalchemy", "aiohttp", "packaging", "asyncssh"}


def test_needs_are_those_of_the_boards_python_not_of_ours() -> None:
    """tomli is for boards with Python 3.10 only, whatever Python chooses the wheels."""
    assert any(need.startswith("tomli") for need in needs(JETPACK))
    assert not any(need.startswith("tomli") for need in needs(BOOKWORM))


def test_markers_further_down_are_read_for_the_board_too(tmp_path: Path) -> None:
    """What a library asks for on Python 3.10 alone goes to that board and to no other."""
    for name, target in BOARDS.items():
        folder = house(tmp_path / name, target)
        wanted = ["old ; python_version < '3.11'", "new ; python_version >= '3.11'", "odd ; sys_platform == 'win32'"]
        tiny(folder, "numpy", "1.99", requires=wanted)
        tiny(folder, "old", "1")
        tiny(folder, "new", "1")
    assert {"old", "new"} & set(versions(JETPACK, tmp_path / "jetpack 6")) == {"old"}
    assert {"old", "new"} & set(versions(TRIXIE, tmp_path / "trixie")) == {"new"}


@pytest.mark.parametrize("target", BOARDS.values(), ids=BOARDS)
def test_tags_are_those_that_run_there(target: Target) -> None:
    """Our tags are packaging's for this Python and C library: none is missing, and none is more than it can take."""
    major, minor = map(int, target.python.split("."))
    newest = int(target.glibc.split(".")[1])
    named = [f"manylinux_2_{n}_aarch64" for n in range(newest, 16, -1)] + ["manylinux2014_aarch64", "linux_aarch64"]
    tags = {*cpython_tags((major, minor), platforms=named), *compatible_tags((major, minor), platforms=named)}

    assert set(target.platforms) == set(named)
    assert {f"{t.abi}" for t in tags if t.interpreter == f"cp{major}{minor}"} == set(target.abis)


def test_the_newest_wheel_that_runs_there_is_chosen(tmp_path: Path) -> None:
    """A newer C library, another processor and another Python are passed over, however new the version."""
    folder = house(tmp_path, BOOKWORM)
    tiny(folder, "numpy", "9.0", "cp311-cp311-manylinux_2_39_aarch64")
    tiny(folder, "numpy", "8.0", "cp311-cp311-manylinux_2_28_x86_64")
    tiny(folder, "numpy", "7.0", "cp313-cp313-manylinux_2_28_aarch64")
    tiny(folder, "numpy", "6.0", "cp311-cp311-manylinux_2_28_aarch64", python=">=3.12")
    tiny(folder, "numpy", "5.0", "cp310-abi3-manylinux_2_34_aarch64")
    tiny(folder, "numpy", "4.0", "cp311-cp311-manylinux2014_aarch64")

    assert versions(BOOKWORM, folder)["numpy"] == "5.0"
    assert versions(Target("3.11", "2.31"), folder)["numpy"] == "4.0"


def test_a_profile_limits_onnxruntime(tmp_path: Path) -> None:
    """A board gets no onnxruntime above what its profile knows to run, nor one that it avoids; any, none untested."""
    profile = load("raspberry-pi-4-4gb")
    folder = house(tmp_path, BOOKWORM)
    for version in ("1.21.0", "1.22.1", TESTED, "99.0.0"):
        tiny(folder, "onnxruntime", version, "cp311-cp311-manylinux_2_28_aarch64")

    assert versions(BOOKWORM, folder)["onnxruntime"] == TESTED
    assert versions(BOOKWORM, folder, "raspberry-pi-4-4gb")["onnxruntime"] == profile.onnxruntime_max
    assert versions(BOOKWORM, folder, "jetson-orin-nano-8gb")["onnxruntime"] == "1.22.1"
    assert "!=1.21.0" in limits(profile)[0]
    assert f"<={profile.onnxruntime_max}" in limits(profile)[0]


def test_what_is_tested_is_what_the_tests_run_with() -> None:
    """The newest onnxruntime of constraints.txt, and no board's profile has a newer one."""
    pinned = re.findall(r"^onnxruntime==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert max(pinned, key=Version) == TESTED
    assert all(Version(p.onnxruntime_max or "0") <= Version(TESTED) for p in map(load, names()))


def test_what_no_wheel_answers_is_said(tmp_path: Path) -> None:
    """The sentence names the library and the board's Python, C library and processor."""
    folder = house(tmp_path, BOOKWORM)
    next(folder.glob("msgpack-*")).unlink()

    with pytest.raises(DoesNotFit, match=r"expected a wheel of msgpack.* for Python 3\.11, glibc 2\.36, aarch64 in "):
        wheels_for(BOOKWORM, None, folder)
    with pytest.raises(StorageError, match="expected a folder of wheels, found none at"):
        wheels_for(BOOKWORM, None, tmp_path / "nowhere")


def test_a_wheelhouse_needs_nothing_that_agents_never_import(tmp_path: Path) -> None:
    """What was kept for an earlier board does for a later one, though tokenizers names a client that is not there."""
    folder = house(tmp_path, BOOKWORM)
    tiny(folder, "tokenizers", "9.0", requires=["huggingface-hub>=0.16,<2"])

    assert versions(BOOKWORM, folder)["tokenizers"] == "9.0"


def test_what_comes_along_unused_stays_here() -> None:
    """The client that tokenizers asks for is not followed; what is asked for by an extra is followed when it is on."""
    nodes = {
        "tokenizers": Node("tokenizers", "1", ("huggingface-hub>=0.16", "b[x]", "d ; extra == 'dev'")),
        "huggingface-hub": Node("huggingface-hub", "1", ("httpx",)),
        "b": Node("b", "1", ("c ; extra == 'x'", "e>=2 ; extra == 'y'")),
        "c": Node("c", "1", ("absent>=3 ; python_version < '4'",)),
    }

    assert reached(["tokenizers>=0.2"], nodes, BOOKWORM) == (
        ("b", "c", "tokenizers"),
        frozenset({"tokenizers>=0.2", "b[x]", "c", "absent>=3"}),
    )


@pytest.mark.parametrize(
    ("python", "glibc", "machine", "said"),
    [
        ("3.6.9", "2.27", "aarch64", "expected Python 3.10 or newer on the board, found 3.6.9"),
        ("3.11.2", "2.36", "armv7l", "expected a system of aarch64 or x86_64, found armv7l"),
    ],
)
def test_a_system_without_an_agent_is_refused(python: str, glibc: str, machine: str, said: str) -> None:
    """Old Pythons and 32-bit systems are refused before anything is fetched."""
    with pytest.raises(DoesNotFit, match=said):
        target_of(python, glibc, machine)


def test_versions_that_are_none_are_refused() -> None:
    """What a board says of itself is looked at before it becomes an argument of a program."""
    with pytest.raises(UsageError, match="expected versions such as 3.11 and 2.36"):
        target_of("3.11 --index-url x", "2.36", "aarch64")


def test_a_wheel_unpacks_as_pip_installs_it(tmp_path: Path) -> None:
    """The same files as `pip install --target` makes, but for what pip writes about itself and programs."""
    files = {"extra-1.data/purelib/more/here.py": b"x = 1\n", "extra-1.data/data/share/doc": b"d"}
    path = tiny(tmp_path / "w", "extra", "1", files=files)
    folder = unpack(Wheel("extra", "1", path, file_digest(path)), tmp_path / "cache")

    ours = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    target = tmp_path / "pip"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", str(target), str(path)], check=True, capture_output=True)
    theirs = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}

    written = {f"extra-1.dist-info/{name}" for name in ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")}
    assert {k: v for k, v in ours.items() if k not in written} == {
        k: v for k, v in theirs.items() if k not in written and not k.startswith("share/")
    }
    assert unpack(Wheel("extra", "1", path, file_digest(path)), tmp_path / "cache") == folder


@pytest.mark.parametrize("place", ["../out.py", "/out.py", "a/../../out.py"])
def test_a_wheel_that_climbs_out_is_refused(place: str, tmp_path: Path) -> None:
    """A file name that leaves the folder is refused, and nothing of the wheel is kept."""
    path = tiny(tmp_path / "w", "evil", "1", files={place: b"x"})

    with pytest.raises(IntegrityError, match="expected a file name below"):
        unpack(Wheel("evil", "1", path, file_digest(path)), tmp_path / "cache")
    assert list((tmp_path / "cache" / "unpacked").iterdir()) == []
    assert not (tmp_path / "out.py").exists()


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    """Bytes that are not those of the wheel's own RECORD do not reach a board."""
    path = tiny(tmp_path, "good", "1", files={"good/a.py": b"a = 1\n"})
    damaged = path.read_bytes().replace(b"a = 1\n", b"a = 2\n")
    path.write_bytes(damaged)

    with pytest.raises(IntegrityError):
        unpack(Wheel("good", "1", path, file_digest(path)), tmp_path / "cache")


@pytest.mark.heavy
@pytest.mark.parametrize("target", BOARDS.values(), ids=BOARDS)
def test_the_index_has_wheels_for_real_boards(target: Target, tmp_path: Path) -> None:
    """From the package index: every wheel runs on the board, and what was fetched once is not fetched again."""
    profile = load("jetson-orin-nano-8gb" if target is JETPACK else "raspberry-pi-4-4gb")
    found = wheels_for(target, profile, None, tmp_path)
    major, minor = map(int, target.python.split("."))
    fine = {
        *cpython_tags((major, minor), platforms=list(target.platforms)),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms=list(target.platforms)),
    }

    assert all(parse_wheel_filename(wheel.path.name)[3] & fine for wheel in found)
    assert {wheel.name: wheel.version for wheel in found}["onnxruntime"] == profile.onnxruntime_max
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.whl")}
    assert wheels_for(target, profile, None, tmp_path) == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.whl")} == before
    shutil.rmtree(tmp_path)
