"""Installing over a real SSH server: what ends up on the board, twice, killed, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("asyncssh")
pytest.importorskip("packaging")

from console.errors import StorageError, TransportError, UsageError, VerificationError
from devices.install.conduct import Outcome, install
from devices.install.root import look_at, root_of
from devices.install.ssh import Host, connected
from devices.install.uninstall import uninstall
from devices.install.wishes import Wishes
from devices.payload import agent, own
from devices.payload.places import HOME, LAUNCHER, UNIT, UNITS
from devices.payload.target import Target
from tests.devices.install.server import Board, board
from tests.devices.payload.houses import house, tiny
from wire.token import Token

HOME_ = HOME.lstrip("/")
FEW = ("console", "devices")  # rooms that travel here: what is in a release is tests/devices/payload's concern
TOKEN = Token(("hub.example:9443",), "farm", "barn-1", b"s" * 16, "ab" * 32)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something for each need of any Python, and a megabyte."""
    folder = tmp_path_factory.mktemp("wheels")
    for python in ("3.10", "3.13"):
        house(folder, Target(python, "2.28"))
    tiny(folder, "numpy", "1.99", files={"numpy/part.bin": os.urandom(1 << 20)})
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board on which nothing is installed."""
    if not agent.LAUNCH.is_file():
        (tmp_path / "launch.py").write_text("pass\n")
        monkeypatch.setattr(agent, "LAUNCH", tmp_path / "launch.py")
    monkeypatch.setattr(own, "ROOMS", FEW)
    (tmp_path / "board").mkdir()
    with board(tmp_path / "board") as one:
        yield one


def installed(here: Board, wheels: Path, token: str | None = TOKEN.text, **wishes: object) -> Outcome:
    """Install, without asking anybody."""
    return asyncio.run(install(here.host(), token, here.wishes(wheels, **wishes)))


def test_a_board_becomes_an_agent_and_the_second_time_nothing_happens(here: Board, wheels: Path) -> None:
    """Release, launcher, unit, settings and service are there after one run; a second one touches no file."""
    outcome = installed(here, wheels)

    assert outcome.status == "waits for its hub"
    assert here.asked() == ["daemon-reload", f"enable {UNIT}", f"restart --no-block {UNIT}"]
    home = here.root / HOME_
    release = (home / "current").resolve()
    assert release.name == outcome.release
    assert subprocess.run(["sha256sum", "-c", "--quiet", "files.sha256"], cwd=release, check=False).returncode == 0
    assert (here.root / LAUNCHER[1:]).read_bytes() == agent.LAUNCH.read_bytes()
    assert "WatchdogSec=30" in (here.root / UNITS[1:] / UNIT).read_text()
    assert (home / "claim-token").read_text().strip() == TOKEN.text
    assert [(home / name).stat().st_mode & 0o777 for name in ("claim-token", "agent.toml", "state")] == [
        0o600,
        0o600,
        0o700,
    ]
    assert (home / "data").is_dir()
    before = here.files()
    here.forget()
    again = installed(here, wheels)
    assert (again.plan.changes, again.status) == (False, None)
    assert here.files() == before
    assert here.asked() == []


def test_a_dry_run_does_nothing(here: Board, wheels: Path) -> None:
    """All is looked at and said, and the board stays as it was."""
    before = here.files()
    outcome = asyncio.run(install(here.host(), TOKEN.text, here.wishes(wheels), dry_run=True))

    assert outcome.plan.changes
    assert here.files() == before
    assert here.asked() == []


def test_keys_are_never_overwritten(here: Board, wheels: Path) -> None:
    """A board that has an identity keeps all that is its own, gets a newer release, and is no other device's."""
    installed(here, wheels)
    home = here.root / HOME_
    own = {
        "identity.json": json.dumps({"name": "barn-1", "fleet": "farm"}),
        "barn-1.key": "secret",
        "agent.toml": "[agent]\n",
    }
    for name, text in own.items():
        (home / name).write_text(text)
    (home / "claim-token").unlink()
    old = (home / "current").resolve()
    newer = tiny(wheels, "numpy", "1.100")
    try:
        outcome = installed(here, wheels)
        assert {name: (home / name).read_text() for name in own} == own
        assert not (home / "claim-token").exists()
        assert outcome.release != old.name
        assert ((home / "current").resolve().name, old.is_dir()) == (outcome.release, True)
        assert "is barn-1 of farm already" in outcome.said[0]
        trial = json.loads((home / "trial.json").read_text())
        assert trial == {"release": outcome.release, "before": old.name, "starts": 0}
        assert not installed(here, wheels, None).plan.changes
    finally:
        newer.unlink()
    with pytest.raises(UsageError, match=r"or barn-2 of farm, found barn-1 of farm; its keys are not overwritten"):
        installed(here, wheels, replace(TOKEN, name="barn-2").text)


def test_killed_while_it_sends_the_old_agent_works_and_the_rest_follows(
    here: Board, wheels: Path, tmp_path: Path
) -> None:
    """After a kill in the middle nothing that ran has changed; the next run sends only what is not there yet."""
    installed(here, wheels)
    home = here.root / HOME_
    old, unit = (home / "current").readlink(), (here.root / UNITS[1:] / UNIT).read_bytes()
    (home / "identity.json").write_text(json.dumps({"name": "barn-1", "fleet": "farm"}))
    newer = tiny(wheels, "numpy", "1.100", files={f"numpy/new{i}.bin": os.urandom(1 << 19) for i in range(24)})
    try:
        partial = killed_while_sending(here, wheels, home / "releases")
        assert (home / "current").readlink() == old
        assert (here.root / UNITS[1:] / UNIT).read_bytes() == unit
        there = {p: p.stat().st_ino for p in partial.rglob("*.bin") if not p.name.startswith(".")}
        assert 0 < len(there) < 24
        outcome = installed(here, wheels, None)
        release = (home / "current").resolve()
        assert release.name == outcome.release
        assert not partial.exists()
        kept = {p.name for p in release.rglob("new*.bin") if p.stat().st_ino in there.values()}
        assert kept == {p.name for p in there}
        assert len(outcome.plan.step("release").files) < len([*release.rglob("*")])
    finally:
        newer.unlink()


def killed_while_sending(here: Board, wheels: Path, releases: Path) -> Path:
    """Install in a process of its own and kill it once some files are on the board; the folder where they are."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom devices.install.conduct import install\n"
        "from tests.devices.install.server import Board\nfrom devices.payload import agent, own\n"
        f"own.ROOMS = {FEW}\n"
        "agent.LAUNCH = Path(sys.argv[4])\n"
        "here = Board(Path(sys.argv[1]), int(sys.argv[2]))\n"
        "asyncio.run(install(here.host(), None, here.wishes(Path(sys.argv[3]))))"
    )
    arguments = [str(here.folder), str(here.port), str(wheels), str(agent.LAUNCH)]
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as process:
        while process.poll() is None:
            found = [*releases.glob(".*.partial")]
            if found and len([*found[0].rglob("new*.bin")]) >= 3:
                process.kill()
                process.wait()
                return found[0]
    raise AssertionError("it was done before it could be killed")


def test_a_host_whose_key_is_not_known_is_refused_until_it_is_accepted(
    here: Board, wheels: Path, tmp_path: Path
) -> None:
    """Nothing is said to an unknown host; once accepted it is known; a host with another key is refused for good."""
    known = tmp_path / "known"
    stranger = here.host(known_hosts=known)
    with pytest.raises(TransportError, match=r"expected the key of 127\.0\.0\.1 in .*--accept-new-host-key"):
        asyncio.run(install(stranger, TOKEN.text, here.wishes(wheels), dry_run=True))
    asyncio.run(install(replace(stranger, accept_new=True), TOKEN.text, here.wishes(wheels), dry_run=True))
    asyncio.run(install(stranger, TOKEN.text, here.wishes(wheels), dry_run=True))
    other = (here.folder / "other.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{here.port} {other[0]} {other[1]}\n")
    with pytest.raises(TransportError, match=r"found another: .* ssh-keygen -R \[127\.0\.0\.1\]:"):
        asyncio.run(install(replace(stranger, accept_new=True), TOKEN.text, here.wishes(wheels), dry_run=True))


def test_who_is_not_let_in_hears_why(here: Board, wheels: Path) -> None:
    """A key that the board does not know, and a port where nothing listens, each give a sentence."""
    with pytest.raises(TransportError, match="to let .* in, it does not"):
        asyncio.run(install(here.host(identity=here.folder / "other"), TOKEN.text, here.wishes(wheels)))
    known = here.folder / "known_hosts"
    known.write_text(known.read_text() + "[127.0.0.1]:1 " + " ".join(known.read_text().split()[1:]) + "\n")
    with pytest.raises(TransportError, match=r"expected SSH at 127\.0\.0\.1 port 1, found none"):
        asyncio.run(install(replace(here.host(), port=1), TOKEN.text, here.wishes(wheels)))


def test_an_agent_that_does_not_come_up_is_said_with_its_last_lines(here: Board, wheels: Path) -> None:
    """A service that fails is an error that quotes its journal."""
    (here.folder / "becomes").write_text("failed\n")

    with pytest.raises(
        VerificationError, match=r"to run, it is failed after 0 restarts; its last lines:\n.*no release"
    ):
        installed(here, wheels)


def test_a_board_that_is_nobody_needs_a_token(here: Board, wheels: Path) -> None:
    """Without a token and without keys there is nothing to become."""
    with pytest.raises(UsageError, match="expected --claim or --claim-file, since the board is nobody yet"):
        installed(here, wheels, None)


def test_a_link_out_of_the_agents_folder_is_not_followed(here: Board, wheels: Path, tmp_path: Path) -> None:
    """An agent that was taken over owns its folder; a link that it left there does not lead root elsewhere."""
    (here.root / HOME_).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (here.root / HOME_ / "releases").symlink_to(outside)

    with pytest.raises(StorageError, match="leads out of it"):
        installed(here, wheels)
    assert [p for p in outside.rglob("*") if p.is_file()] == []


def test_bundle_data_and_settings_travel(here: Board, wheels: Path, tmp_path: Path) -> None:
    """A bundle and samples lie where agent.toml says, and further entries are in it."""
    bundle, data = tmp_path / "bundle", tmp_path / "samples"
    for folder, name in ((bundle, "manifest.json"), (data / "cat", "1.png")):
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
    installed(here, wheels, bundle=bundle, data=data, tables={"agent": {"threads": 2}})

    home = here.root / HOME_
    assert (home / "bundle/manifest.json").is_file()
    assert (home / "data/cat/1.png").is_file()
    text = (home / "agent.toml").read_text()
    assert 'bundle = "bundle"' in text
    assert "threads = 2" in text


@pytest.mark.parametrize("keep", [True, False])
def test_uninstalling(keep: bool, here: Board, wheels: Path) -> None:
    """Service, unit, launcher and releases go; keys and data only if they are not to be kept; again is no error."""
    before = here.files()
    installed(here, wheels)
    here.forget()
    (here.root / HOME_ / "barn-1.key").write_text("secret")
    gone = asyncio.run(uninstall(here.host(), here.wishes(wheels), keep_data=keep))

    assert f"{UNITS}/{UNIT}" in gone
    assert here.asked() == [f"disable --now {UNIT}", "daemon-reload", f"reset-failed {UNIT}"]
    left = set(here.files()) - set(before)
    assert left == ({f"{HOME_}/{name}" for name in ("barn-1.key", "agent.toml", "claim-token")} if keep else set())
    again = asyncio.run(uninstall(here.host(), here.wishes(wheels), keep_data=keep))
    assert again == ()


def test_no_secret_is_in_a_repr() -> None:
    """What is logged by accident holds neither password nor token."""
    assert "hush" not in repr(Host("a@b", "a", "b", password="hush"))
    assert "hush" not in repr(Wishes(sudo_password=b"hush"))


def test_a_password_for_sudo_goes_to_sudo_and_nowhere_else(here: Board, wheels: Path) -> None:
    """Where sudo asks it reads the password first and the rest is untouched; a wrong one is said."""
    assert asyncio.run(as_root(here, b"right horse")) == {
        "digests": {},
        "links": {},
        "read": {},
        "complete": False,
        "whole": [],
    }
    assert "right horse" not in (here.folder / "sudo").read_text()
    with pytest.raises(StorageError, match="it says: sudo: 1 incorrect password attempt"):
        asyncio.run(as_root(here, b"wrong horse"))


async def as_root(here: Board, password: bytes) -> dict[str, object]:
    """Ask a board something through its sudo."""
    async with connected(here.host()) as shell:
        look = replace(await look_at(shell), uid=1000)
        assert look.sudo == "asks"
        told = {"digests": [], "links": [], "read": [], "release": "r", "partial": "p"}
        root = replace(root_of(shell, look, password), prefix=str(here.root))
        return await root.call("state", told, [b"" for _ in range(3)])
