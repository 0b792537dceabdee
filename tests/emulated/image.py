"""A card's image as people download it: a partition table, FAT, and ext4 with a Debian that was never started."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.emulated.cache import kept
from tests.emulated.debian import Debian
from tests.programs import image_tools

SECTOR = 512
BOOT_START, BOOT_SECTORS, ROOT_START, SECTORS = 16384, 131072, 147456, 2097152  # 64 MiB of FAT, all together 1 GiB
TABLE = f"""\
label: dos
label-id: 0xdeb1a001
start={BOOT_START}, size={BOOT_SECTORS}, type=c
start={ROOT_START}, size={SECTORS - ROOT_START}, type=83
"""
USERS = (("messagebus", 100), ("sshd", 101), ("systemd-network", 998), ("systemd-timesync", 997))
FILES = {
    "etc/hostname": "debian\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 debian\n",
    "etc/machine-id": "",
    "etc/fstab": "/dev/vda2 / ext4 defaults,noatime 0 1\n/dev/vda1 /boot/firmware vfat defaults,nofail 0 2\n",
    "etc/systemd/network/10-dhcp.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n",
    "etc/systemd/system/ssh.service.d/keys.conf": (
        "[Service]\nExecStartPre=\nExecStartPre=/bin/sh -c "
        "'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N \"\" -f /etc/ssh/ssh_host_ed25519_key'\n"
    ),
    "etc/pam.d/common-account": "account required pam_unix.so\n",
    "etc/pam.d/common-auth": "auth required pam_unix.so nullok\n",
    "etc/pam.d/common-password": "password required pam_unix.so\n",
    "etc/pam.d/common-session": "session required pam_unix.so\n",
    "etc/pam.d/common-session-noninteractive": "session required pam_unix.so\n",
}
COPIED = {
    "etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf",
    "etc/ssh/sshd_config": "usr/share/openssh/sshd_config",
}
UNITS = "etc/systemd/system"
LINKS = {
    f"{UNITS}/default.target": "/lib/systemd/system/multi-user.target",
    f"{UNITS}/multi-user.target.wants/systemd-networkd.service": "/lib/systemd/system/systemd-networkd.service",
    f"{UNITS}/multi-user.target.wants/ssh.service": "/lib/systemd/system/ssh.service",
    f"{UNITS}/systemd-networkd-wait-online.service": "/dev/null",
    "usr/bin/awk": "mawk",
    "var/run": "/run",
    "var/lock": "/run/lock",
}


def plain(debian: Debian) -> Path:
    """The image, made once for each Debian; nobody may write to it."""
    image_tools()
    recipe = repr((debian.tree.parent.name, TABLE, USERS, FILES, COPIED, LINKS))
    return kept("image", recipe, lambda folder: _make(folder, debian)) / "debian.img"


def _make(folder: Path, debian: Debian) -> None:
    folder.mkdir()
    tree, image = folder / "tree", folder / "debian.img"
    subprocess.run(["cp", "-al", debian.tree, tree], check=True, timeout=400)
    _configure(tree)
    with image.open("wb") as file:
        file.truncate(SECTORS * SECTOR)
    _run(["sfdisk", "--quiet", str(image)], TABLE)
    # -s 1: else so small a file system would be FAT16
    offset = ["-s", "1", "-n", "BOOTFS", "--offset", str(BOOT_START)]
    _run(["mkfs.vfat", "-F", "32", *offset, str(image), str(BOOT_SECTORS // 2)])
    # as pi-gen makes them; for mkfs all files are of root, whoever runs this
    root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    told = ["-q", "-F", "-L", "rootfs", "-O", "^64bit,^huge_file", "-E", f"offset={ROOT_START * SECTOR},root_owner=0:0"]
    size = f"{(SECTORS - ROOT_START) * SECTOR // 1024}k"
    _run([*root, "mkfs.ext4", *told, "-d", str(tree), str(image), size])
    shutil.rmtree(tree)


def _configure(tree: Path) -> None:
    """What packages would do while they are configured; files of the tree are links, so none is written into."""
    for name in ("passwd", "group"):
        text = (tree / f"usr/share/base-passwd/{name}.master").read_text().replace("root:*:0", "root:x:0")
        line = "{0}:x:{1}:{1}::/:/usr/sbin/nologin\n" if name == "passwd" else "{0}:x:{1}:\n"
        _write(tree / "etc" / name, text + "".join(line.format(*user) for user in USERS))
    _write(tree / "etc/shadow", "root:*:19000:0:99999:7:::\n", 0o640)
    for path, text in FILES.items():
        _write(tree / path, text)
    for path, source in COPIED.items():
        _write(tree / path, (tree / source).read_text())
    for path, target in LINKS.items():
        if (tree / path).is_dir():  # of packages that are used to it as a link
            shutil.rmtree(tree / path)
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    for folder in ("boot/firmware", "usr/local/bin", "usr/local/lib", "usr/local/sbin"):
        (tree / folder).mkdir(parents=True)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _run(command: list[str], text: str | None = None) -> None:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env=environment, check=False, timeout=400
    )
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
