"""What goes onto a board, read back by what will read it there: Python, systemd, sha256sum and the agent itself."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("packaging")

from console.errors import StorageError, UsageError
from console.toml import read_toml
from devices.payload import agent
from devices.payload.agent import agent_payload
from devices.payload.placed import Linked, Payload
from devices.payload.places import CLAIM, CONFIG, CURRENT, HOME, LAUNCHER, RELEASES, UNIT
from devices.payload.release import Release, release
from devices.payload.settings import Settings, agent_toml, reached_at, settings_payload
from devices.payload.target import Target
from devices.payload.unit import limits_of, unit, unit_payload
from devices.profile import load
from edge.config import read_config
from edge.identity.configuration import Wishes, write_configuration
from tests.devices.payload.houses import house, tiny
from wire.identity import BrokerAt, Granted
from wire.token import Token, parse_token

TARGET = Target("3.11", "2.36")
TOKEN = Token(("hub.example:9443", "[fd00::1]:9444"), "farm", "barn-1", b"s" * 16, "ab" * 32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release of our code and tiny wheels."""
    root = tmp_path_factory.mktemp("release")
    return release(TARGET, None, house(root / "wheels", TARGET), root / "cache")


def placed(payload: Payload, root: Path) -> Path:
    """The payload below a folder of this machine."""
    for path, mode in payload.folders:
        (root / path[1:]).mkdir(parents=True, exist_ok=True)
        (root / path[1:]).chmod(mode)
    for file in payload.files:
        here = root / file.path[1:]
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(file.content.read_bytes() if isinstance(file.content, Path) else file.content)
        here.chmod(file.mode)
    for link in payload.links:
        (root / link.path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / link.path[1:]).symlink_to(link.target)
    return root


def test_a_release_runs_from_its_folder_alone(made: Release, tmp_path: Path) -> None:
    """Python with nothing but lib/ on its path finds our command, its version and the libraries."""
    root = placed(made.payload, tmp_path)
    code = "import edgequilt, msgpack, importlib.metadata as m; print(edgequilt.__version__, m.version('edgequilt'))"
    lib = (root / CURRENT[1:] / "lib").resolve()
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(lib)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    ours, told = done.stdout.split()
    assert ours == told == made.version.partition("+")[0]
    assert (root / CURRENT[1:]).resolve() == root / RELEASES[1:] / made.version


def test_sha256sum_agrees(made: Release, tmp_path: Path) -> None:
    """coreutils finds every file as files.sha256 says, release.json holds that file's own digest and what is there."""
    folder = placed(made.payload, tmp_path) / made.folder[1:]
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "files.sha256"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    about = json.loads((folder / "release.json").read_text())
    whole = subprocess.run(["sha256sum", "files.sha256"], cwd=folder, capture_output=True, text=True, check=True)
    assert about["digest"] == whole.stdout.split()[0]
    assert about["version"] == made.version
    assert (about["python"], about["glibc"], about["architecture"]) == ("3.11", "2.36", "aarch64")
    held = {p.relative_to(folder).as_posix() for p in (folder / "lib").rglob("*") if p.is_file()}
    assert held == {line.split("  ")[1] for line in (folder / "files.sha256").read_text().splitlines()}
    assert about["files"] == len(held)


def test_the_version_says_which_bytes(made: Release, tmp_path: Path) -> None:
    """The same wheels give the same version, one other byte gives another."""
    again = release(TARGET, None, house(tmp_path / "wheels", TARGET), tmp_path / "cache")
    tiny(tmp_path / "wheels", "numpy", "1.26", files={"numpy/more.py": b""})
    other = release(TARGET, None, tmp_path / "wheels", tmp_path / "cache")

    assert again.version == made.version
    assert again.version != other.version


def test_the_unit_says_what_it_shall() -> None:
    """A parser of INI files finds the watchdog, the restarts, the limits and the one folder in it."""
    profile = load("raspberry-pi-zero-2w")
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit("/usr/bin/python3", limits_of(profile)))
    service = dict(parsed["Service"])

    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["WatchdogSec"] == "30"
    assert (service["Restart"], service["RestartSec"]) == ("always", "5")
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0"
    assert parsed["Unit"]["After"] == "network.target"
    assert service["ExecStart"] == f"/usr/bin/python3 {LAUNCHER} agent run --config {CONFIG}"
    assert int(service["MemoryHigh"]) < int(service["MemoryMax"]) == profile.memory_available_bytes.value
    assert f"/var/lib/{service['StateDirectory']}" == HOME
    assert service["DynamicUser"] == service["NoNewPrivileges"] == service["PrivateDevices"] == "yes"
    assert service["OOMPolicy"] == "continue"


def test_an_accelerator_is_not_locked_away() -> None:
    """A board whose onnxruntime may use more than its processor keeps its devices; others lose them."""
    plain = unit_payload(load("raspberry-pi-5-4gb")).files[0].content

    assert b"PrivateDevices=yes" in bytes(plain) if isinstance(plain, bytes) else False
    assert "PrivateDevices=no" in unit(devices=True)
    assert "ProtectClock" not in unit(devices=True)


@pytest.mark.parametrize("devices", [False, True])
def test_systemd_takes_the_unit(devices: bool, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of it."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / UNIT
    path.write_text(unit(sys.executable, devices=devices), encoding="utf-8")
    done = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True, check=False)

    said = [line for line in (done.stdout + done.stderr).splitlines() if UNIT in line]
    assert said == []


def test_the_claim_makes_the_settings_whole(tmp_path: Path) -> None:
    """What is placed is TOML with a claim; after a claim's answer the agent reads it, with what a person chose."""
    settings = Settings(TOKEN.text, None, "raspberry-pi-5-4gb", tables={"agent": {"threads": 3}})
    root = placed(settings_payload(settings), tmp_path)
    path = root / CONFIG[1:]
    folder = path.parent
    tables = read_toml(path)

    assert tables["claim"] == {"token_file": "claim-token"}
    assert (folder / "claim-token").read_text().strip() == TOKEN.text
    assert {p.stat().st_mode & 0o777 for p in (path, root / CLAIM[1:])} == {0o600}
    (folder / "data.jsonl").write_text("{}")
    for name in ("barn-1.key", "hub.pub", "acme.pub"):
        (folder / name).write_text("x")
    granted = Granted("farm", "barn-1", "", "", "", (), BrokerAt(False, "", 1883), (), 0.0, 1.0)
    write_configuration(path, granted, "hub.example", ("acme.pub",), Wishes(data=folder / "data.jsonl"))
    config = read_config(path)
    assert (config.name, config.fleet, config.threads) == ("barn-1", "farm", 3)
    assert (config.profile, config.state) == ("raspberry-pi-5-4gb", folder / "state")


@pytest.mark.parametrize(
    ("hub", "first"),
    {
        "mqtts://10.0.0.5:8883": ("10.0.0.5:9443", "10.0.0.5:9444"),
        "https://10.0.0.5:443": ("10.0.0.5:443",),
        "gate.example": ("gate.example:9443", "gate.example:9444"),
        "https://[fd00::2]:8": ("[fd00::2]:8",),
    }.items(),
)
def test_the_hub_is_asked_where_the_board_reaches_it(hub: str, first: tuple[str, ...]) -> None:
    """`--hub` comes before the token's own addresses, and the token stays what it is beside that."""
    token = parse_token(reached_at(TOKEN, hub).text)

    assert token.addresses == (*first, *TOKEN.addresses)
    assert (token.secret, token.name, token.fingerprint) == (TOKEN.secret, TOKEN.name, TOKEN.fingerprint)


@pytest.mark.parametrize("hub", ["ftp://a:1", "mqtts://", "https://a:b", "mqtts://a/b", "a b", "https://a:99999"])
def test_an_address_that_is_none_is_refused(hub: str) -> None:
    """The sentence says what an address looks like."""
    with pytest.raises(UsageError, match="expected --hub as mqtts://HOST:PORT or https://HOST:PORT, found"):
        reached_at(TOKEN, hub)


def test_all_of_it(made: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole payload holds each part once, and nothing outside of the places that are agreed on."""
    if not agent.LAUNCH.is_file():
        (tmp_path / "launch.py").write_text("pass\n")
        monkeypatch.setattr(agent, "LAUNCH", tmp_path / "launch.py")
    bundle, data = tmp_path / "bundle", tmp_path / "samples"
    for folder, name in ((bundle, "manifest.json"), (data / "cat", "1.png")):
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
    settings = Settings(TOKEN.text, bundle=True)
    payload = agent_payload(made, settings, load("raspberry-pi-4-4gb"), bundle=bundle, data=data)
    paths = [file.path for file in payload.files] + [link.path for link in payload.links]

    assert len(paths) == len(set(paths))
    outside = {path for path in paths if not path.startswith(f"{HOME}/")}
    units = "/etc/systemd/system"
    assert outside == {
        LAUNCHER,
        "/usr/local/bin/edgequilt",
        f"{units}/{UNIT}",
        f"{units}/multi-user.target.wants/{UNIT}",
    }
    assert {f"{HOME}/bundle/manifest.json", f"{HOME}/data/cat/1.png", CONFIG, CLAIM} <= set(paths)
    assert Linked(CURRENT, f"releases/{made.version}") in payload.links
    assert 'bundle = "bundle"' in agent_toml(settings)
    with pytest.raises(StorageError, match=r"expected a folder with manifest\.json at"):
        agent_payload(made, settings, bundle=tmp_path / "empty")
