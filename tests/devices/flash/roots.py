"""What roots and boot partitions of systems hold, as far as flashing looks: their layout is that of their builders."""

from __future__ import annotations

from dataclasses import dataclass, field

ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(200)  # 64 bits, little-endian, aarch64
PASSWD = b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
SHADOW = b"root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"
GROUP = b"root:x:0:\nadm:x:4:syslog\nsudo:x:27:\nvideo:x:44:\n"
CMDLINE = b"console=serial0,115200 root=PARTUUID=4e639091-02 rootfstype=ext4 fsck.repair=yes rootwait\n"
FSTAB = (
    b"proc /proc proc defaults 0 0\nPARTUUID=1-01 /boot/firmware vfat defaults 0 2\nPARTUUID=1-02 / ext4 defaults 0 1\n"
)

Root = dict[str, "bytes | str"]


def base(python: str, glibc: str, os_release: str) -> Root:
    """What all of them have."""
    status = f"Package: libc6\nStatus: install ok installed\nArchitecture: arm64\nVersion: {glibc}-9+deb12u7\n\n"
    return {
        "/etc/os-release": os_release.encode(),
        "/etc/passwd": PASSWD,
        "/etc/shadow": SHADOW,
        "/etc/group": GROUP,
        "/etc/gshadow": b"root:*::\nadm:*::syslog\nsudo:*::\nvideo:*::\n",
        "/etc/hosts": b"127.0.0.1\tlocalhost\n127.0.1.1\told\n",
        "/etc/hostname": b"old\n",
        "/etc/fstab": FSTAB,
        "/etc/systemd/system/multi-user.target.wants/ssh.service": "/lib/systemd/system/ssh.service",
        f"/usr/bin/python{python}": ELF,
        "/usr/bin/python3": f"python{python}",
        "/var/lib/dpkg/status": status.encode() + b"Package: zlib1g\nVersion: 1:1.2.13\n\n",
    }


@dataclass(frozen=True)
class Card:
    """An image to make."""

    root: Root
    boot: dict[str, bytes] | None = None
    label: str = "dos"
    root_first: bool = False
    python: str = "3.11"
    glibc: str = "2.36"
    said: tuple[str, ...] = field(default=())


DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
TRIXIE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\n'
ISSUE = b"Raspberry Pi reference 2026-10-01\nGenerated using pi-gen\n"
BOOT = {"config.txt": b"arm_64bit=1\n", "cmdline.txt": CMDLINE}
MANAGER: Root = {"/etc/NetworkManager/system-connections/.keep": b"", "/usr/sbin/NetworkManager": ELF}

CARDS = {
    "raspberry pi os, cloud-init": Card(
        {**base("3.13", "2.41", TRIXIE), "/etc/rpi-issue": ISSUE, **MANAGER},
        {**BOOT, "user-data": b"#cloud-config\n", "meta-data": b"instance_id: rpios-image\n", "network-config": b""},
        python="3.13",
        glibc="2.41",
        said=("cloud-init",),
    ),
    "raspberry pi os, firstrun": Card(
        {
            **base("3.11", "2.36", DEBIAN),
            "/etc/rpi-issue": ISSUE,
            "/usr/lib/raspberrypi-sys-mods/imager_custom": b"#!/bin/sh\n",
            **MANAGER,
        },
        BOOT,
        said=("firstrun",),
    ),
    "raspberry pi os, rpi-preseed": Card(
        {
            **base("3.13", "2.41", TRIXIE),
            "/etc/rpi-issue": ISSUE,
            "/usr/lib/raspberrypi-sys-mods/imager_custom": b"#!/bin/sh\n",
            "/usr/lib/rpi-preseed/rpi-preseed": b"#!/bin/sh\n",
            **MANAGER,
        },
        BOOT,
        python="3.13",
        glibc="2.41",
        said=("rpi-preseed",),
    ),
    "jetpack": Card(
        {
            **base("3.10", "2.35", UBUNTU),
            "/etc/nv_tegra_release": b"# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
            "/etc/systemd/system/default.target": "/lib/systemd/system/nv-oem-config.target",
            **MANAGER,
        },
        {"EFI.txt": b"firmware\n"},
        label="gpt",
        root_first=True,
        python="3.10",
        glibc="2.35",
        said=("firmware of JetPack 6",),
    ),
    "debian": Card({**base("3.11", "2.36", DEBIAN), "/usr/sbin/wpa_supplicant": ELF}, {"readme.txt": b""}),
    "armbian": Card(
        {
            **base("3.11", "2.36", DEBIAN),
            "/etc/armbian-release": b'BOARD=rock-5b\nBOARD_NAME="Rock 5B"\nVERSION=25.8.1\n',
            **MANAGER,
        }
    ),
}
