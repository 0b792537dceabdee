"""Debian for arm64 from packages: unpacked and never configured, so nothing of it runs while it is made.

Nothing is mounted and no root is needed. What is made stays in build/ under a name that the list below decides.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.emulated.cache import kept
from tests.programs import debian_tools

RELEASE = "bookworm"  # its Python is 3.11, its glibc 2.36
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = """
apt base-files base-passwd bash busybox-static coreutils dash dbus debianutils dpkg e2fsprogs fdisk findutils grep gzip
hostname iproute2 kmod libc-bin libnss-systemd libpam-modules libpam-runtime login mawk mount netbase openssh-server
passwd procps python3 sed systemd systemd-sysv tar udev util-linux
"""
KERNEL = "linux-image-arm64"  # depends on the newest kernel
MODULES = """
drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci
drivers/virtio/virtio_mmio drivers/block/virtio_blk net/core/failover drivers/net/net_failover drivers/net/virtio_net
drivers/char/hw_random/virtio-rng crypto/crc32c_generic lib/libcrc32c lib/crc16 fs/mbcache fs/jbd2/jbd2 fs/ext4/ext4
fs/fat/fat fs/fat/vfat fs/nls/nls_cp437 fs/nls/nls_ascii
"""  # in the order in which they are loaded
LEFT_OUT = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*")
INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
for m in {modules}; do $B insmod /m/$m.ko || echo "insmod $m failed" > /dev/console; done
n=0; while [ ! -b /dev/vda2 ] && [ $n -lt 100 ]; do $B sleep 0.1; n=$((n+1)); done
$B mount -t ext4 /dev/vda2 /root || echo "the root file system cannot be mounted" > /dev/console
$B mount -o move /dev /root/dev; $B mount -o move /proc /root/proc; $B mount -o move /sys /root/sys
exec $B switch_root /root /sbin/init
"""


@dataclass(frozen=True)
class Debian:
    """What was made of the packages.

    Attributes:
        tree: the root file system as a folder, nothing in it configured.
        kernel: what qemu boots.
        initrd: static busybox and the modules that a virtual machine's disk and network need.
    """

    tree: Path
    kernel: Path
    initrd: Path


def debian() -> Debian:
    """The newest packages of the release, or those of an earlier run."""
    debian_tools()
    recipe = repr((RELEASE, PACKAGES, KERNEL, MODULES, LEFT_OUT, INIT, sys.version_info[:2], "dpkg knows"))
    folder = kept("debian", recipe, _make)
    return Debian(folder / "tree", folder / "kernel", folder / "initrd.gz")


def _make(folder: Path) -> None:
    apt = Apt(folder / "apt")
    _unpack(apt.needed(PACKAGES.split()), folder / "tree")
    _compile(folder / "tree")
    package = next(name for name in apt.depends(KERNEL) if name.startswith("linux-image-"))
    _unpack([apt.alone(package)], folder / "kernel-tree")
    (kernel,) = (folder / "kernel-tree" / "boot").glob("vmlinuz-*")
    modules = next((folder / "kernel-tree" / "usr" / "lib" / "modules").iterdir()) / "kernel"
    kernel.rename(folder / "kernel")
    (folder / "initrd.gz").write_bytes(gzip.compress(b"".join(_initrd(folder / "tree", modules)), 6))
    shutil.rmtree(folder / "kernel-tree")
    shutil.rmtree(folder / "apt")


class Apt:
    """apt-get with a state of its own: what this machine has installed and fetched is not touched."""

    def __init__(self, folder: Path, release: str = RELEASE) -> None:
        self.folder = folder
        for made in ("lists/partial", "cache/archives/partial", "state"):
            (folder / made).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {release} main\n")
        told = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": folder / "state",
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": folder / "status",
        }
        self._told = [word for name, value in told.items() for word in ("-o", f"{name}={value}")]
        self._run("apt-get", "-qq", "update")

    def needed(self, names: list[str]) -> list[Path]:
        """Packages and all that they depend on."""
        self._run("apt-get", "-qq", "-y", "--download-only", "install", *names)
        return sorted((self.folder / "cache" / "archives").glob("*.deb"))

    def alone(self, name: str) -> Path:
        """One package, nothing else."""
        self._run("apt-get", "-qq", "download", name)
        (found,) = self.folder.glob("*.deb")
        return found

    def depends(self, name: str) -> list[str]:
        """What a package depends on."""
        return re.findall(r"Depends: (\S+)", self._run("apt-cache", "depends", name))

    def _run(self, program: str, *arguments: str) -> str:
        command = [program, *self._told, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{' '.join([program, *arguments])}: {done.stderr}"
        return done.stdout


def _mirror() -> str:
    """Where this machine has its own Debian from: a Debian mirror has every architecture."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    known = {RELEASE, "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable"}
    rows = (line.split() for line in told.stdout.splitlines())
    found = [row[0] for row in rows if len(row) == 3 and row[1] in known and row[2] == "main"]
    if not found:
        pytest.skip("this machine's apt has no Debian mirror; the packages of an arm64 Debian come from there")
    return found[0]


def _unpack(packages: list[Path], tree: Path) -> None:
    """Files only; /bin, /sbin and /lib lead to /usr, as on every installed Debian."""
    tree.mkdir()
    for name in ("bin", "sbin", "lib"):
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    into = ["tar", "-x", "-p", "--numeric-owner", "--keep-directory-symlink", *(f"--exclude={p}" for p in LEFT_OUT)]
    for package in packages:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as out:
            subprocess.run([*into, "-C", tree], stdin=out.stdout, check=True, timeout=900)
        assert out.returncode == 0, package
    (tree / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
    (tree / "var/lib/dpkg/status").write_text("\n".join(map(_installed, packages)))


def _installed(package: Path) -> str:
    """What dpkg would note of a package: by this, others know its version."""
    told = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True, timeout=60)
    first, _, rest = told.stdout.partition("\n")
    return f"{first}\nStatus: install ok installed\n{rest}"


def _compile(tree: Path) -> None:
    """What configuring python3 would do; another Python's bytecode is worth nothing, and then it starts slowly."""
    if sys.version_info[:2] == (3, 11):
        command = [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "-s",
            tree,
            "-p",
            "/",
            tree / "usr/lib/python3.11",
        ]
        subprocess.run(command, check=True, timeout=900)


def _initrd(tree: Path, modules: Path) -> Iterator[bytes]:
    """A cpio archive of the kind "newc" (cpio(5)), written here since few machines have the program."""
    names = [Path(module).name for module in MODULES.split()]
    files = {"init": (0o100755, INIT.format(modules=" ".join(names)).encode())}
    files["bin/busybox"] = (0o100755, (tree / "usr/bin/busybox").read_bytes())
    files |= {f"m/{Path(m).name}.ko": (0o100644, (modules / f"{m}.ko").read_bytes()) for m in MODULES.split()}
    for folder in ("bin", "m", "dev", "proc", "sys", "root"):
        yield _entry(folder, 0o040755)
    for name, (mode, data) in files.items():
        yield _entry(name, mode, data)
    yield _entry("dev/console", 0o020600, device=(5, 1))
    yield _entry("TRAILER!!!", 0)


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member: 13 numbers of eight hexadecimal digits, the name, the data, each filled up to four bytes."""
    told = name.encode() + b"\0"
    numbers = (len(name), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(told), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + told
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
