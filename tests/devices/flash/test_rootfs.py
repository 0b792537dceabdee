"""`edgequilt flash --rootfs`: a folder gets what an image gets, and nothing outside of it is touched."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("packaging")

from console.errors import BadData, DoesNotFit, StorageError, UsageError
from devices.flash.changes import Seen
from devices.flash.cli import flash
from devices.flash.ext4 import Ext4
from devices.flash.partitions import read_partitions
from devices.flash.rootfs import Folder
from devices.flash.systems.release import target_of_root
from devices.flash.systems.system import recognise
from devices.flash.tools import run
from devices.flash.wishes import Wishes
from devices.payload.placed import Linked, Payload, Placed
from devices.payload.places import CLAIM, CONFIG, CURRENT, LAUNCHER, UNIT
from devices.payload.target import Target
from tests.conftest import ROOT
from tests.devices.flash.images import make_image
from tests.devices.flash.roots import CARDS, UBUNTU, Root, base
from tests.devices.payload.houses import house
from wire.token import Token

TOKEN = Token(("hub.example:9443",), "farm", "barn-1", b"s" * 16, "ab" * 32)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBEKsAmuHWYvFxZ1PTMRyGm5lcJ1WCBYdVYyb0ZsW8Zd somebody"
WISHES = Wishes("barn-1", "edgequilt", (KEY,), "Hof", "a long password", "DE", "Europe/Berlin")
JETPACK = CARDS["jetpack"]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to root")


def make_folder(path: Path, root: Root) -> Path:
    """A root file system as NVIDIA's tools leave it: a folder."""
    for name, content in root.items():
        place = path / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)
    return path


def listed(folder: Path) -> dict[str, tuple[str, object]]:
    """Everything in a folder: kind, and content with mode and owner, or what a link says."""
    found: dict[str, tuple[str, object]] = {}
    for path in folder.rglob("*"):
        name, info = path.relative_to(folder).as_posix(), path.lstat()
        owned = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_file():
            found[name] = ("file", (path.read_bytes(), *owned))
        else:
            found[name] = ("folder", owned)
    return found


@as_root
def test_a_folder_gets_what_an_image_gets(tmp_path: Path) -> None:
    """The same changes, written into both: every path, content, mode, owner and link is the same afterwards."""
    folder = Folder(make_folder(tmp_path / "rootfs", JETPACK.root))
    image = make_image(tmp_path / "card.img", JETPACK.root)
    ext4 = Ext4(image, read_partitions(image).parts[0])
    assert target_of_root(folder) == target_of_root(ext4)
    system = recognise(Seen(folder))
    assert system.name == "jetpack"
    payload = system.changes(Seen(folder), WISHES, "mark").root + Payload(
        (Placed("/var/lib/edgequilt/key", b"secret", 0o600), Placed("/opt/new/deep/file", b"x" * 70000, 0o755)),
        (Linked("/var/lib/edgequilt/current", "releases/1"),),
        (("/var/lib/edgequilt/state", 0o700),),
        ("/etc/fstab",),
    )
    folder.inject(payload)
    ext4.inject(payload)
    (tmp_path / "dumped").mkdir()
    run("debugfs", ["-R", f"rdump / {tmp_path / 'dumped'}", ext4._at])
    dumped = {name: entry for name, entry in listed(tmp_path / "dumped").items() if name != "lost+found"}
    assert listed(folder.path) == dumped
    assert "etc/fstab" not in dumped
    assert dumped["etc/systemd/system/default.target"] == ("link", "/lib/systemd/system/multi-user.target")


def test_both_look_alike(tmp_path: Path) -> None:
    """Reading a folder and reading an image of it say the same."""
    root: Root = {**JETPACK.root, "/etc/alias": "/etc/hosts", "/etc/up": "../../../etc/hosts", "/etc/round": "round"}
    folder, image = Folder(make_folder(tmp_path / "rootfs", root)), make_image(tmp_path / "card.img", root)
    ext4 = Ext4(image, read_partitions(image).parts[0])
    for path in ("/etc/hosts", "/etc/alias", "/etc/up", "/etc/round", "/etc", "/none", "/usr/bin/python3"):
        assert folder.read_whole(path) == ext4.read_whole(path) or path == "/etc"
        assert sorted(folder.names(path)) == sorted(ext4.names(path))
    assert folder.read("/etc/up") == root["/etc/hosts"]


def test_no_link_leads_out(tmp_path: Path) -> None:
    """Absolute and relative links to what is outside are links to the same path inside: nothing is read or written."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    folder = Folder(make_folder(tmp_path / "rootfs", {"/etc/hostname": b"old\n"}))
    (folder.path / "absolute").symlink_to(outside)
    (folder.path / "relative").symlink_to("../outside")
    (folder.path / "etc/direct").symlink_to(outside / "secret")
    assert folder.read("/absolute/secret") is None
    assert folder.read("/relative/secret") is None
    assert folder.read("/etc/direct") is None
    assert folder.names("/absolute") == ()
    files = tuple(Placed(path, b"ours") for path in ("/absolute/secret", "/relative/secret", "/etc/direct"))
    folder.inject(Payload(files, (Linked("/absolute/link", "x"),), (("/relative", 0o700),), ("/absolute",)), owner=None)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert stat.S_IMODE(outside.stat().st_mode) != 0o700
    assert (folder.path / "etc/direct").read_bytes() == b"ours"
    assert not (folder.path / "etc/direct").is_symlink()
    assert folder.read("/relative/secret") == b"ours"
    assert (folder.path / "outside/secret").read_bytes() == b"ours"


def test_what_is_in_the_way_is_said_before_anything_is_written(tmp_path: Path) -> None:
    """A folder in a file's place, a file in a folder's, a link that goes round."""
    folder = Folder(make_folder(tmp_path / "rootfs", {"/a/b": b"", "/file": b"", "/round": "round"}))
    before = listed(folder.path)
    for path in ("/a", "/file/below", "/round/below"):
        with pytest.raises(BadData, match="expected a"):
            folder.inject(Payload((Placed("/first", b""), Placed(path, b""))), owner=None)
    assert listed(folder.path) == before


def words(tmp_path: Path, folder: Path, device: str = "jetson-orin-nx-8gb") -> list[str]:
    """One call with what a user says."""
    (tmp_path / "token").write_text(TOKEN.text)
    (tmp_path / "key.pub").write_text(f"{KEY}\n")
    house(tmp_path / "wheels", Target(JETPACK.python, JETPACK.glibc))
    who = ["--device", device, "--claim-file", str(tmp_path / "token"), "--ssh-key", str(tmp_path / "key.pub")]
    where = ["--rootfs", str(folder), "--report", str(tmp_path / "report.json"), "--hostname", "barn-1"]
    return [*who, *where, "--wheelhouse", str(tmp_path / "wheels")]


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a call for a JetPack's folder."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return words(tmp_path, make_folder(tmp_path / "rootfs", JETPACK.root))


@as_root
def test_a_module_without_a_card(tmp_path: Path, called: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One command: the agent is in the folder with its modes, the wizard is skipped, the report has no secret."""
    folder = tmp_path / "rootfs"
    before = listed(folder)
    assert flash([*called, "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert listed(folder) == before
    assert not (tmp_path / "report.json").exists()
    assert flash(called) == 0
    assert "Jetson Linux R36.4.3 (JetPack 6)" in capsys.readouterr().out
    found = listed(folder)
    assert found[CLAIM.lstrip("/")] == ("file", (TOKEN.text.encode() + b"\n", 0o600, 0, 0))
    for path in (CONFIG, LAUNCHER, f"/etc/systemd/system/{UNIT}"):
        assert found[path.lstrip("/")][0] == "file"
    assert (folder / CURRENT.lstrip("/") / "lib" / "edge").is_dir()
    assert str((folder / "etc/systemd/system/default.target").readlink()) == "/lib/systemd/system/multi-user.target"
    assert not [path for path in found if ".edgequilt-" in path]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["device"], report["profile"]) == ("barn-1", "jetson-orin-nx-8gb")
    assert report["written_to"] == {"path": str(folder)}
    assert TOKEN.text not in json.dumps(report)
    again = listed(folder)
    assert flash(called) == 0
    assert set(listed(folder)) == set(again)


@as_root
def test_what_is_no_such_folder_is_refused(tmp_path: Path, called: list[str]) -> None:
    """This system's own root, none at all, options of cards, and NVIDIA's before its packages are in it."""
    at = called.index("--rootfs") + 1
    with pytest.raises(UsageError, match="found this system's own"):
        flash([*called[:at], "/", *called[at + 1 :]])
    with pytest.raises(UsageError, match="expected a folder with a root file system"):
        flash([*called[:at], str(tmp_path / "none"), *called[at + 1 :]])
    with pytest.raises(UsageError, match="without --to"):
        flash([*called, "--to", "/dev/sdz"])
    plain = make_folder(tmp_path / "plain", base("3.10", "2.35", UBUNTU))
    before = listed(plain)
    with pytest.raises(BadData, match=r"run NVIDIA's apply_binaries\.sh first"):
        flash([*called[:at], str(plain), *called[at + 1 :]])
    old = make_folder(tmp_path / "old", {**base("3.8", "2.31", UBUNTU), "/etc/nv_tegra_release": b"# R35 (release)"})
    with pytest.raises(DoesNotFit, match="found 3.8"):
        flash([*called[:at], str(old), *called[at + 1 :]])
    assert listed(plain) == before


def test_only_root_gives_files_to_root(tmp_path: Path) -> None:
    """Another user is told so, before anything is written."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom devices.flash.rootfs import require_folder\n"
        "from console.errors import UsageError\n"
        "os.setuid(65534) if os.geteuid() == 0 else None\n"
        "try:\n    require_folder(Path('/tmp'))\nexcept UsageError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "run it with sudo" in done.stdout


def test_halves_that_a_killed_run_left_are_swept(tmp_path: Path) -> None:
    """A token in a half of a file would go onto a board, readable to nobody and for ever; a folder of others stays."""
    folder = Folder(
        make_folder(tmp_path / "rootfs", {"/var/lib/edgequilt/data/.keep": b"", "/var/.edgequilt-x/y": b""})
    )
    half, link = tmp_path / "rootfs/var/lib/edgequilt/.edgequilt-abc", tmp_path / "rootfs/.edgequilt-9.link"
    half.write_bytes(b"token")
    link.symlink_to("nowhere")
    folder.inject(Payload((Placed(CLAIM, b"token", 0o600), Placed("/top", b""))), None)
    assert not half.exists()
    assert not link.is_symlink()
    assert (tmp_path / "rootfs/var/.edgequilt-x/y").exists()
    assert folder.read(CLAIM) == b"token"


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    """The second is refused: it would take what the first has in work for halves that were left."""
    folder = Folder(make_folder(tmp_path / "rootfs", {"/etc/hostname": b"old\n"}))
    with folder._alone(), pytest.raises(StorageError, match="for us alone, found another run"):
        folder.inject(Payload((Placed("/etc/hostname", b"new\n"),)), None)
    assert folder.read("/etc/hostname") == b"old\n"
