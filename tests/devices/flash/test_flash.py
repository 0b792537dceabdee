"""`edgequilt flash` as a user runs it, into files: every system, what ends up in it, and what is refused."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import stat
import struct
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("packaging")

from console.errors import BadData, DoesNotFit, IntegrityError, MissingDependency, StorageError, UsageError
from devices.flash import staging, tools
from devices.flash.cli import flash
from devices.flash.ext4 import Ext4
from devices.flash.fat import Fat
from devices.flash.partitions import read_partitions
from devices.flash.systems.basics import EPOCH
from devices.flash.systems.cloud_init import kernel_line
from devices.flash.wishes import Wishes
from devices.payload.places import CLAIM, CONFIG, CURRENT, LAUNCHER, UNIT
from devices.payload.target import Target
from tests.devices.flash.images import make_image
from tests.devices.flash.roots import CARDS, DEBIAN, base
from tests.devices.flash.test_images import independent
from tests.devices.payload.houses import house
from wire.token import Token

TOKEN = Token(("hub.example:9443",), "farm", "barn-1", b"s" * 16, "ab" * 32)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBEKsAmuHWYvFxZ1PTMRyGm5lcJ1WCBYdVYyb0ZsW8Zd somebody"
SSID, PASSWORD = "Hof nebenan", "a long password"


@dataclass
class Desk:
    """Everything that a call needs, in one folder."""

    folder: Path
    wheels: Path

    def image(self, name: str) -> Path:
        """A card's image, compressed."""
        card = CARDS[name]
        raw = make_image(self.folder / "raw.img", card.root, card.boot, label=card.label, root_first=card.root_first)
        packed = self.folder / "system.img.xz"
        packed.write_bytes(lzma.compress(raw.read_bytes(), preset=0))
        raw.unlink()
        return packed

    def call(self, image: Path, *words: str, to: str = "out.img") -> int:
        """One call with everything that can be wished."""
        (self.folder / "key.pub").write_text(f"{KEY}\n")
        (self.folder / "wifi").write_text(f"{PASSWORD}\n")
        (self.folder / "token").write_text(TOKEN.text)
        wishes = ["--hostname", "barn-1", "--ssh-key", str(self.folder / "key.pub"), "--timezone", "Europe/Berlin"]
        wifi = ["--wifi-ssid", SSID, "--wifi-password-file", str(self.folder / "wifi"), "--wifi-country", "DE"]
        where = ["--image", str(image), "--to", str(self.folder / to), "--report", str(self.folder / "report.json")]
        who = ["--device", "raspberry-pi-5-4gb", "--claim-file", str(self.folder / "token")]
        return flash([*who, *where, *wishes, *wifi, "--wheelhouse", str(self.wheels), *words])


@dataclass
class Flashed:
    """What one call with all wishes left."""

    image: Path
    out: Path
    report: Path
    told: str


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something for each need of any of the systems."""
    folder = tmp_path_factory.mktemp("wheels")
    for card in CARDS.values():
        house(folder, Target(card.python, card.glibc))
    return folder


@pytest.fixture
def desk(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A fresh one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(wheels.parent / "cache"))
    return Desk(tmp_path, wheels)


@pytest.fixture(scope="module")
def flashed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Flashed]:
    """A card of each system, made when it is first asked for; nobody changes it."""

    @functools.cache
    def make(name: str) -> Flashed:
        desk, told = Desk(tmp_path_factory.mktemp("card"), wheels), io.StringIO()
        image = desk.image(name)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(told):
            patch.setenv("XDG_CACHE_HOME", str(wheels.parent / "cache"))
            assert desk.call(image) == 0
        return Flashed(image, desk.folder / "out.img", desk.folder / "report.json", told.getvalue())

    return make


def root_of(image: Path) -> int:
    """The number of the root's partition."""
    return next(part.number for part in read_partitions(image).parts if part.holds == "ext4")


@pytest.mark.parametrize("name", CARDS)
def test_every_system_gets_the_agent(name: str, flashed: Callable[[str], Flashed]) -> None:
    """Release, launcher, unit, settings and token are in the root with their modes; the report says it."""
    found = flashed(name)
    out = found.out
    for words in CARDS[name].said:
        assert words in found.told
    report = json.loads(found.report.read_text())
    assert report["image_sha256"] == hashlib.sha256(found.image.read_bytes()).hexdigest()
    assert report["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (report["device"], report["profile"]) == ("barn-1", "raspberry-pi-5-4gb")
    with independent(out, root_of(out)) as fs:
        assert fs.get(CLAIM).open().read().decode().strip() == TOKEN.text
        for path, mode in ((CONFIG, 0o600), (CLAIM, 0o600), (LAUNCHER, 0o644)):
            node = fs.get(path).inode
            assert (stat.S_IMODE(node.i_mode), node.i_uid, node.i_gid) == (mode, 0, 0)
        wanted = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
        assert fs.get(wanted).link == f"/etc/systemd/system/{UNIT}"
        assert fs.get(CURRENT).link == f"releases/{report['release']}"
        assert fs.get(f"{CURRENT.rpartition('/')[0]}/releases/{report['release']}/release.json").open().read()
        for one in report["placed"]["root"]["files"]:
            if "sha256" in one:
                assert hashlib.sha256(fs.get(one["path"]).open().read()).hexdigest() == one["sha256"]


@pytest.mark.parametrize("name", CARDS)
def test_no_secret_is_told(name: str, flashed: Callable[[str], Flashed]) -> None:
    """Neither the token nor the password nor its key is in the report or in what is printed; nothing is left."""
    found = flashed(name)
    key = Wishes(wifi_ssid=SSID, wifi_password=PASSWORD).wifi_key
    for text in (found.told, found.report.read_text()):
        for secret in (TOKEN.text, PASSWORD, key, hashlib.sha256(TOKEN.text.encode()).hexdigest()):
            assert secret not in text
    assert not list(found.out.parent.glob(".edgequilt-flash-*"))


def boot_files(found: Flashed) -> dict[str, bytes]:
    """The FAT partition after a flash."""
    part = next(part for part in read_partitions(found.out).parts if part.holds == "fat")
    fat = Fat(found.out, part)
    return {entry: fat.read_whole(f"/{entry}") or b"" for entry in fat.names("/")}


def test_cloud_init_hears_of_it(flashed: Callable[[str], Flashed]) -> None:
    """YAML as its own schema wants it, one line for the kernel with this card's instance, the cable beside Wi-Fi."""
    yaml = pytest.importorskip("yaml")
    found = boot_files(flashed("raspberry pi os, cloud-init"))
    user = yaml.safe_load(found["user-data"])
    assert found["user-data"].startswith(b"#cloud-config\n")
    assert user["hostname"] == "barn-1"
    assert user["timezone"] == "Europe/Berlin"
    assert "users" not in user
    assert user["user"]["sudo"] is None
    assert user["user"]["ssh_authorized_keys"] == [KEY]
    assert ["systemctl", "enable", "--now", "ssh"] in user["runcmd"]
    network = yaml.safe_load(found["network-config"])
    assert network["ethernets"]["eth0"] == {"dhcp4": True, "optional": True}
    (ssid,) = network["wifis"]["wlan0"]["access-points"]
    assert ssid == SSID
    assert network["wifis"]["wlan0"]["optional"] is True
    assert len(network["wifis"]["wlan0"]["access-points"][ssid]["password"]) == 64
    instance = yaml.safe_load(found["meta-data"])["instance-id"]
    line = found["cmdline.txt"].decode()
    assert line.count("\n") == 1
    assert f"ds=nocloud;i={instance}" in line.split()
    assert "cfg80211.ieee80211_regdom=DE" in line.split()
    assert "root=PARTUUID=4e639091-02" in line.split()


def test_a_card_written_again_is_set_up_again() -> None:
    """Another instance, and the one before is gone from the kernel's line."""
    first = kernel_line("root=/dev/x rootwait\n", ["ds=nocloud;i=edgequilt-1"])
    second = kernel_line(first, ["ds=nocloud;i=edgequilt-2"])
    assert second == "root=/dev/x rootwait ds=nocloud;i=edgequilt-2\n"


def test_firstrun_hears_of_it(flashed: Callable[[str], Flashed], tmp_path: Path) -> None:
    """Run by bash in a scratch root with the image's helpers, the script calls them and removes itself."""
    found = boot_files(flashed("raspberry pi os, firstrun"))
    line = found["cmdline.txt"].decode().split()
    assert "systemd.run=/boot/firmware/firstrun.sh" in line
    assert "systemd.unit=kernel-command-line.target" in line
    scratch = tmp_path / "scratch"
    (scratch / "boot/firmware").mkdir(parents=True)
    (scratch / "boot/firmware/cmdline.txt").write_bytes(found["cmdline.txt"])
    script = scratch / "boot/firmware/firstrun.sh"
    text = found["firstrun.sh"].decode().replace("/boot/firmware", f"{scratch}/boot/firmware")
    helpers = ("/usr/lib/raspberrypi-sys-mods/imager_custom", "/usr/lib/userconf-pi/userconf")
    for helper in helpers:
        own = scratch / Path(helper).name
        own.write_text(f'#!/bin/sh\necho "{Path(helper).name}|$(printf "%s|" "$@")" >> {scratch}/calls\n')
        own.chmod(0o755)
        text = text.replace(helper, str(own))
    script.write_text(text)
    subprocess.run(["bash", str(script)], check=True)
    calls = (scratch / "calls").read_text().splitlines()
    assert "imager_custom|set_hostname|barn-1|" in calls
    assert f"imager_custom|enable_ssh|-k|{KEY}|" in calls
    octets = "".join(f"{byte};" for byte in SSID.encode())  # what NetworkManager reads as any name
    assert any(call.startswith(f"imager_custom|set_wlan|{octets}|") and call.endswith("|DE|") for call in calls)
    assert "imager_custom|set_timezone|Europe/Berlin|" in calls
    assert not script.exists()
    after = (scratch / "boot/firmware/cmdline.txt").read_text().split()
    assert not [word for word in after if word.startswith("systemd.")]
    assert "rootwait" in after


def test_rpi_preseed_hears_of_it(flashed: Callable[[str], Flashed]) -> None:
    """TOML of its version, with the key of the network and never the password."""
    tomllib = pytest.importorskip("tomllib")
    found = tomllib.loads(boot_files(flashed("raspberry pi os, rpi-preseed"))["rpi-preseed.toml"].decode())
    assert found["config_version"] == "1.1"
    assert found["system"]["hostname"] == "barn-1"
    assert found["ssh"]["authorized_keys"] == [KEY]
    assert found["wlan"]["password_encrypted"] is True
    assert found["wlan"]["country"] == "DE"
    assert found["locale"]["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize("name", ["raspberry pi os, cloud-init", "raspberry pi os, rpi-preseed"])
def test_secrets_leave_the_fat_partition(name: str, flashed: Callable[[str], Flashed], tmp_path: Path) -> None:
    """The unit of the first start really overwrites and removes what holds the key, once, and only that."""
    files, out = boot_files(flashed(name)), flashed(name).out
    root = next(part for part in read_partitions(out).parts if part.holds == "ext4")
    script = (Ext4(out, root).read("/usr/lib/edgequilt/first.sh") or b"").decode()
    scratch = tmp_path / "scratch"
    (scratch / "boot/firmware").mkdir(parents=True)
    (scratch / "var/lib").mkdir(parents=True)
    for entry, content in files.items():
        (scratch / "boot/firmware" / entry).write_bytes(content)
    for _ in range(2):  # cut off and run again, it does no harm
        subprocess.run(["sh"], input=script, text=True, check=True, env={**os.environ, "EDGEQUILT_ROOT": str(scratch)})
    left = {path.name for path in (scratch / "boot/firmware").iterdir()}
    secret = "network-config" if "cloud" in name else "rpi-preseed.toml"
    assert left == set(files) - {secret}
    assert (scratch / "var/lib/edgequilt-first.done").exists()


def root_files(found: Flashed) -> Ext4:
    """The root after a flash."""
    return Ext4(found.out, next(part for part in read_partitions(found.out).parts if part.holds == "ext4"))


@pytest.mark.parametrize("name", CARDS)
def test_the_clock_begins_when_the_card_was_made(name: str, flashed: Callable[[str], Flashed]) -> None:
    """systemd takes the time of /usr/lib/clock-epoch where a board has no clock: it is not before this flash."""
    found = flashed(name)
    made, done = found.image.stat().st_mtime, found.report.stat().st_mtime
    with independent(found.out, root_of(found.out)) as fs:
        node = fs.get(EPOCH)
        assert made - 1 <= node.mtime.timestamp() <= done + 1
        assert node.open().read() == b""


def test_a_jetson_asks_nothing(flashed: Callable[[str], Flashed]) -> None:
    """The default target is the usual one; the account is there with its key; the network is NetworkManager's."""
    root = root_files(flashed("jetpack"))
    assert root._target("/etc/systemd/system/default.target") == "/lib/systemd/system/multi-user.target"
    passwd = (root.read("/etc/passwd") or b"").decode().splitlines()
    assert passwd[:2] == ["root:x:0:0:root:/root:/bin/bash", "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin"]
    assert passwd[2] == "edgequilt:x:1000:1000::/home/edgequilt:/bin/bash"
    assert (root.read("/etc/shadow") or b"").decode().splitlines()[2].startswith("edgequilt:*:")
    assert "adm:x:4:syslog,edgequilt" in (root.read("/etc/group") or b"").decode()
    assert "sudo:x:27:edgequilt" in (root.read("/etc/group") or b"").decode()
    assert KEY in (root.read("/etc/ssh/authorized_keys.d/edgequilt") or b"").decode()
    keyfile = (root.read("/etc/NetworkManager/system-connections/edgequilt-wifi.nmconnection") or b"").decode()
    octets = next(line for line in keyfile.splitlines() if line.startswith("ssid=")).partition("=")[2]
    assert bytes(map(int, octets.strip(";").split(";"))).decode() == SSID
    assert PASSWORD not in keyfile
    assert b"growpart" in (root.read("/usr/lib/edgequilt/first.sh") or b"")


def test_debian_is_named_and_reached(flashed: Callable[[str], Flashed]) -> None:
    """Name, hosts, time zone; Wi-Fi by wpa_supplicant, since there is no NetworkManager."""
    root = root_files(flashed("debian"))
    assert root.read("/etc/hostname") == b"barn-1\n"
    assert b"127.0.1.1\tbarn-1" in (root.read("/etc/hosts") or b"")
    assert b"old" not in (root.read("/etc/hosts") or b"")
    assert root._target("/etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin"
    told = (root.read("/etc/wpa_supplicant/wpa_supplicant-wlan0.conf") or b"").decode()
    assert f"ssid={SSID.encode().hex()}" in told
    assert PASSWORD not in told


def test_armbian_has_its_answers(flashed: Callable[[str], Flashed]) -> None:
    """The file of the first login; its root grows by itself."""
    root = root_files(flashed("armbian"))
    assert b"PRESET_TIMEZONE=Europe/Berlin" in (root.read("/root/.not_logged_in_yet") or b"")
    assert root.read("/usr/lib/edgequilt/first.sh") is None


def test_data_and_settings_travel(desk: Desk) -> None:
    """Samples lie in the agent's data folder, further entries in its agent.toml."""
    (desk.folder / "samples").mkdir()
    (desk.folder / "samples" / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (desk.folder / "more.toml").write_text("[idle]\nload = 1.0\n")
    words = ("--data", str(desk.folder / "samples"), "--settings", str(desk.folder / "more.toml"))
    assert desk.call(desk.image("debian"), *words) == 0
    out = desk.folder / "out.img"
    root = Ext4(out, next(part for part in read_partitions(out).parts if part.holds == "ext4"))
    assert root.read("/var/lib/edgequilt/data/rows.jsonl") == b'{"text": "a", "label": "b"}\n'
    assert b"load = 1.0" in (root.read(CONFIG) or b"")


def test_an_unknown_system_is_refused(desk: Desk) -> None:
    """It says what it looked for; no file is left."""
    image = make_image(desk.folder / "raw.img", base("3.11", "2.36", "ID=gentoo\n"))
    with pytest.raises(BadData, match="none of its signs .*jetpack: /etc/nv_tegra_release.*raspberry-pi-os: "):
        desk.call(image)
    assert not (desk.folder / "out.img").exists()


def test_a_system_without_a_python_that_does_is_refused(desk: Desk) -> None:
    """JetPack 5 has 3.8."""
    image = make_image(desk.folder / "raw.img", base("3.8", "2.31", DEBIAN))
    with pytest.raises(DoesNotFit, match=r"expected Python 3\.10 or newer on the board, found 3\.8"):
        desk.call(image)


def test_a_damaged_image_is_refused(desk: Desk) -> None:
    """Cut short, another digest, no image at all: a sentence each, no traceback, no file."""
    image = desk.image("debian")
    whole = image.read_bytes()
    with pytest.raises(IntegrityError, match="expected system.img.xz with SHA-256 00"):
        desk.call(image, "--sha256", "00" * 32)
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="a damaged one"):
        desk.call(image)
    image.write_bytes(b"nothing of an image" * 100)
    with pytest.raises(BadData, match="expected a partition table"):
        desk.call(image)
    with pytest.raises(StorageError, match="expected an image at"):
        desk.call(desk.folder / "none.img")
    assert not (desk.folder / "out.img").exists()


@pytest.mark.parametrize("packed", [lzma.compress, gzip.compress])
def test_a_bomb_is_not_unpacked(packed: Callable[[bytes], bytes], desk: Desk) -> None:
    """A few kilobytes that become more than --max-size: refused where the file says it, else stopped there."""
    image, head = desk.folder / "bomb.img", bytearray(64 << 20)
    struct.pack_into("<B3xB3xII", head, 446, 0, 0x83, 1, 8)  # a table that promises little
    head[510:512] = b"\x55\xaa"
    image.write_bytes(packed(bytes(head)))
    with pytest.raises(DoesNotFit, match=r"an image of at most 8.0 MiB \(--max-size\), found one of (64|9).0 MiB"):
        desk.call(image, "--max-size", "8MiB")
    assert not list(desk.folder.glob(".edgequilt-flash-*"))


def test_the_partition_table_tells_the_size(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the packing does not: nothing of it is unpacked."""
    raw = make_image(desk.folder / "raw.img", CARDS["debian"].root, CARDS["debian"].boot)
    image = desk.folder / "system.img.gz"
    image.write_bytes(gzip.compress(raw.read_bytes(), 1))
    monkeypatch.setattr(staging, "stage", None)
    with pytest.raises(DoesNotFit, match=r"at most 64.0 MiB \(--max-size\), found one of 89.0 MiB; take"):
        desk.call(image, "--max-size", "64MiB")


def test_the_agent_must_fit_too(desk: Desk) -> None:
    """An image that fits by itself and not with what is placed into it is refused before it is changed."""
    size = desk.folder / "raw.img"
    image, data = desk.image("debian"), desk.folder / "samples"
    data.mkdir()
    (data / "rows.bin").write_bytes(os.urandom(60 << 20))
    with pytest.raises(DoesNotFit, match=r"expected an image with the agent of at most 100.0 MiB .*found one of 1\d\d"):
        desk.call(image, "--max-size", "100MiB", "--data", str(data))
    assert not size.exists()


@pytest.mark.parametrize("missing", [("mcopy", "mdir"), ("e2fsck",), ("debugfs", "sfdisk")])
def test_missing_programs_are_found_at_once(missing: tuple[str, ...], desk: Desk, tmp_path: Path) -> None:
    """All of them in one sentence, with the packages to install, and before anything is unpacked."""
    image, bin_ = desk.image("debian"), tmp_path / "bin"
    bin_.mkdir()
    for name in {*tools.PACKAGES} - {*missing}:
        (bin_ / name).symlink_to(tools.tool(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(bin_))
        patch.setattr(tools, "SBIN", str(bin_))
        patch.setattr(staging, "stage", None)
        packages = " ".join(dict.fromkeys(tools.PACKAGES[name] for name in missing))
        with pytest.raises(MissingDependency, match=f"install {packages}$") as refusal:
            desk.call(image)
    assert all(f"{name}" in str(refusal.value).partition("found no")[2] for name in missing)


def test_folders_and_tokens_are_looked_at_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that is none, a token that is none: said before the image is unpacked."""
    image = desk.image("debian")
    monkeypatch.setattr(staging, "stage", None)
    with pytest.raises(StorageError, match=r"expected a folder with manifest.json"):
        desk.call(image, "--bundle", str(desk.folder))
    with pytest.raises(UsageError, match="token"):
        desk.call(image, "--claim-file", str(desk.folder / "key.pub"), "--count", "3")


def test_a_file_is_not_overwritten(desk: Desk) -> None:
    """Without --force; with it, the new one takes its place as a whole."""
    image = desk.image("debian")
    (desk.folder / "out.img").write_text("precious")
    with pytest.raises(UsageError, match="expected a new file for --to"):
        desk.call(image)
    assert (desk.folder / "out.img").read_text() == "precious"
    assert desk.call(image, "--force") == 0
    assert read_partitions(desk.folder / "out.img")


def test_a_dry_run_writes_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """It says the system, the release and what would be placed, also as JSON without secrets."""
    image = desk.image("jetpack")
    before = sorted(path.name for path in desk.folder.iterdir())
    assert desk.call(image, "--dry-run") == 0
    assert "nothing was written" in capsys.readouterr().out
    assert desk.call(image, "--dry-run", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["system"] == "jetpack"
    assert TOKEN.text not in json.dumps(found)
    assert (
        sorted(p.name for p in desk.folder.iterdir() if p.name not in ("cache", "key.pub", "wifi", "token")) == before
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--hostname", "No Good"), "expected a --hostname"),
        (("--timezone", "Mars/Crater"), "expected a --timezone"),
        (("--wifi-country", "Germany"), "expected a --wifi-country"),
        (("--count", "2"), "expected a claim token for each of 2 cards, found 1"),
        (("--device", "jetson-nano-4gb"), "expected a board that can run an agent"),
    ],
)
def test_wishes_that_cannot_be_met(desk: Desk, words: tuple[str, ...], sentence: str) -> None:
    """Each is refused before the image is unpacked."""
    with pytest.raises((UsageError, DoesNotFit), match=sentence):
        desk.call(desk.folder / "none.img", *words)
