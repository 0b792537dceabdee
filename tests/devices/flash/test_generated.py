"""Scripts and units that are written into images: shells read them, systemd takes them, nothing waits in a circle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devices.payload.places import UNIT, UNITS
from devices.payload.unit import unit, unit_payload
from devices.profile import load
from tests.devices.flash.roots import CARDS, DEBIAN, ELF, Card, base
from tests.devices.flash.seen import WISHES, After, flashed
from tests.devices.flash.vendors import cloud_init
from tests.programs import program

MORE = {
    "debian without a resolver": Card({**base("3.11", "2.36", DEBIAN), "/usr/sbin/wpa_supplicant": ELF}),
    "nothing at all": Card(base("3.11", "2.36", DEBIAN)),
}
SYSTEMS = {**CARDS, **MORE}
SHELLS = {
    "dash": ["dash", "-n"],
    "sh": ["sh", "-n"],
    "busybox": ["busybox", "sh", "-n"],
    "bash": ["bash", "--posix", "-n"],
}
# what matters of cloud-init's units for the order of ours; the package's own are in a heavy test
CLOUD = {
    "cloud-final.service": "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
    "cloud-init.target": "[Unit]\nAfter=multi-user.target\nWants=cloud-final.service\n",
}
PRESEED = "[Unit]\nBefore=systemd-user-sessions.service\n[Service]\nType=oneshot\nExecStart=/bin/true\n"


def scripts(found: After) -> dict[str, bytes]:
    """Everything that a shell reads, by path."""
    files = {**found.root, **found.boot}
    return {path: text for path, text in files.items() if isinstance(text, bytes) and text.startswith(b"#!/bin/")}


def units(found: After) -> dict[str, str]:
    """Units and what enables them: text, or what a link says."""
    placed = {path: content for path, content in found.root.items() if path.startswith(f"{UNITS}/")}
    return {path: content.decode() if isinstance(content, bytes) else content for path, content in placed.items()}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_is_one(shell: str) -> None:
    """For each shell that is /bin/sh somewhere; `firstrun.sh` is for bash, which all of them agree on."""
    program(SHELLS[shell][0], SHELLS[shell][0])
    seen = {path: text for name in SYSTEMS for path, text in scripts(flashed(name_of(name))).items() if len(text) > 60}
    assert {Path(path).name for path in seen} == {"first.sh", "firstrun.sh", "names.sh"}
    for path, text in seen.items():
        done = subprocess.run(SHELLS[shell], input=text, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), path
    broken = subprocess.run(SHELLS[shell], input=b"if true; then\n", capture_output=True, check=False)
    assert broken.returncode != 0, "this shell takes anything"


def name_of(name: str) -> Card | str:
    """A card by its name."""
    return MORE.get(name, name)


def verified(folder: Path, texts: dict[str, str], stubs: dict[str, str]) -> str:
    """What systemd says of starting all of them with multi-user.target; stubs stand for a system's own units."""
    for name, text in stubs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for path, text in texts.items():
        place = folder / Path(path).relative_to(UNITS)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".target"):
            continue  # the default one of this machine does
        if ".wants/" in path:
            if (folder / place.name).exists() or text.startswith(UNITS):
                place.symlink_to(f"../{place.name}")
        else:
            place.write_text(text.replace("/usr/bin/python3", sys.executable))
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:/usr/lib/systemd/system:/lib/systemd/system"}
    names = [path.name for path in folder.iterdir() if path.is_file()]
    command = ["systemd-analyze", "verify", "--man=no", "multi-user.target", *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return ours(done.stderr, names)


def ours(said: str, names: list[str]) -> str:
    """Without what it says of the units of this machine itself, and of scripts that are on boards only."""
    lines = [line for line in said.splitlines() if "ordering cycle" in line or any(name in line for name in names)]
    return "\n".join(line for line in lines if "/usr/lib/edgequilt/" not in line)


def require_systemd() -> None:
    """Skip where it is not."""
    if shutil.which("systemd-analyze") is None or not Path("/lib/systemd/system/multi-user.target").exists():
        pytest.skip("systemd is not installed")


@pytest.mark.parametrize("name", SYSTEMS)
def test_systemd_takes_every_unit(name: str, tmp_path: Path) -> None:
    """Each is understood to its last entry, and all of them start with the system's target without a circle."""
    require_systemd()
    texts = units(flashed(name_of(name))) | agent(None)
    stubs = {"cloud-init": CLOUD, "rpi-preseed": {"rpi-preseed.service": PRESEED}}
    system = next((kind for kind in stubs if kind in name), "")
    assert verified(tmp_path, texts, stubs.get(system, {})) == ""


@pytest.mark.parametrize("profile", ["raspberry-pi-zero-2w", "jetson-orin-nano-8gb"])
def test_systemd_takes_the_agents_unit(profile: str, tmp_path: Path) -> None:
    """With the limits and devices of a kind of board."""
    require_systemd()
    assert verified(tmp_path, agent(profile), {}) == ""


def test_a_bad_unit_and_a_circle_are_seen(tmp_path: Path) -> None:
    """What the tests above rest on: a word that systemd does not know, and cloud-init's last unit before ours alone."""
    require_systemd()
    path = f"{UNITS}/{UNIT}"
    assert "Restrat" in verified(tmp_path / "a", {path: unit().replace("Restart=", "Restrat=")}, {})
    found = flashed("raspberry pi os, cloud-init")
    first = f"{UNITS}/edgequilt-first.service"
    texts = {path: text for path, text in units(found).items() if "edgequilt-first" in path}
    texts[first] = texts[first].replace("cloud-final.service multi-user.target", "cloud-final.service")
    assert "ordering cycle" in verified(tmp_path / "b", texts, CLOUD)


def agent(profile: str | None) -> dict[str, str]:
    """The agent's unit, enabled."""
    payload = unit_payload(None if profile is None else load(profile))
    texts = {one.path: one.content.decode() for one in payload.files if isinstance(one.content, bytes)}
    return texts | {link.path: link.target for link in payload.links}


@pytest.mark.heavy
def test_cloud_inits_own_units_are_no_circle_with_ours(tmp_path: Path) -> None:
    """Those of the newest Debian's package, enabled as it enables them."""
    require_systemd()
    folder = cloud_init() / "usr/lib/systemd/system"
    stubs = {path.name: path.read_text() for path in folder.glob("cloud-*")}
    for name in [name for name in stubs if "WantedBy=cloud-init.target" in stubs[name]]:
        stubs[f"cloud-init.target.wants/{name}"] = stubs[name]
    stubs["multi-user.target.wants/cloud-init.target"] = stubs["cloud-init.target"]
    assert "cloud-final.service" in stubs
    texts = units(flashed("raspberry pi os, cloud-init")) | agent(None)
    said = verified(tmp_path, texts, stubs)
    assert "cycle" not in said
    assert "edgequilt" not in said
    assert WISHES.wifi_key not in said
