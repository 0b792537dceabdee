"""What is read of proc and sys: of Pis, of an x86-64 machine, of control groups, and of nothing at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from console.errors import StorageError
from edge.probe.cpu import cpu
from edge.probe.disk import device_of, disk
from edge.probe.network import interfaces
from edge.probe.ram import ram
from edge.probe.system import system

DATA = Path(__file__).parent / "data"
MIB = 1 << 20
X86 = """processor	: 0
model name	: Intel(R) N100
cpu MHz		: 799.998
flags		: fpu sse2 avx2 avx_vnni aes

processor	: 1
model name	: Intel(R) N100
cpu MHz		: 3400.100
flags		: fpu sse2 avx2 avx_vnni aes
"""


def write(root: Path, name: str, text: str) -> None:
    """Put a file of the kernel's there."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "core", "isa"),
    [("cpuinfo.a72", "Cortex-A72", ()), ("cpuinfo.a76", "Cortex-A76", ("dotprod", "fp16", "aes"))],
)
def test_cores_of_pis(tmp_path: Path, name: str, core: str, isa: tuple[str, ...]) -> None:
    """The core is named by its part number, its extensions as profiles name them; the clock is the highest of any."""
    write(tmp_path, "proc/cpuinfo", (DATA / name).read_text(encoding="utf-8"))
    for at, khz in enumerate((1_500_000, 2_400_000)):
        write(tmp_path, f"sys/devices/system/cpu/cpu{at}/cpufreq/cpuinfo_max_freq", f"{khz}\n")
    found = cpu(tmp_path, "aarch64")

    assert (found.core, found.isa, found.cores, found.clock_hz) == (core, isa, 2, 2_400_000_000)


def test_cores_of_x86(tmp_path: Path) -> None:
    """A mini PC: its flags, its name, the highest of its clocks."""
    write(tmp_path, "proc/cpuinfo", X86)
    found = cpu(tmp_path, "x86_64")

    assert (found.core, found.model, found.cores) == ("x86-64", "Intel(R) N100", 2)
    assert found.isa == ("aes", "avx2", "avx_vnni")
    assert found.clock_hz == 3_400_100_000


def test_cores_without_cpuinfo(tmp_path: Path) -> None:
    """Where cpuinfo says nothing, an Arm kernel's bits in the auxiliary vector do; no clock is invented."""
    (tmp_path / "proc/self").mkdir(parents=True)
    pairs = ((16, 1 << 20 | 1 << 10 | 1 << 3), (26, 1 << 13 | 1 << 1), (0, 0))
    (tmp_path / "proc/self/auxv").write_bytes(b"".join(struct.pack("QQ", *pair) for pair in pairs))
    found = cpu(tmp_path, "aarch64")

    assert found.isa == ("dotprod", "fp16", "aes", "i8mm", "sve2")
    assert (found.core, found.cores, found.clock_hz) == ("unknown", 1, None)


def test_a_strange_core_keeps_its_numbers(tmp_path: Path) -> None:
    """A core that nobody named is called by what the kernel says of it."""
    write(tmp_path, "proc/cpuinfo", "processor : 0\nCPU implementer : 0x61\nCPU part : 0x022\nFeatures : asimddp\n")

    assert cpu(tmp_path, "aarch64").core == "implementer 0x61, part 0x022"


def test_memory_and_groups(tmp_path: Path) -> None:
    """What is available is within the narrowest group; what was sold is the next size above what Linux has."""
    write(tmp_path, "proc/meminfo", "MemTotal: 3884000 kB\nMemFree: 100 kB\nMemAvailable: 3600000 kB\nHugePages: 0\n")
    assert (ram(tmp_path).total_bytes, ram(tmp_path).available_bytes) == (3884000 * 1024, 3600000 * 1024)
    assert (ram(tmp_path).nominal_bytes, ram(tmp_path).limit_bytes) == (4096 * MIB, None)

    write(tmp_path, "proc/self/cgroup", "0::/system.slice/agent.service\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/memory.current", "1\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/agent.service/memory.max", f"{300 * MIB}\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/agent.service/memory.current", f"{40 * MIB}\n")
    assert (ram(tmp_path).available_bytes, ram(tmp_path).limit_bytes) == (260 * MIB, 300 * MIB)


def test_groups_of_version_one(tmp_path: Path) -> None:
    """The older kind of control groups limits as well."""
    write(tmp_path, "proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    write(tmp_path, "proc/self/cgroup", "7:cpu:/x\n3:memory,hugetlb:/x\n")
    write(tmp_path, "sys/fs/cgroup/memory/x/memory.limit_in_bytes", str(100 * MIB))
    write(tmp_path, "sys/fs/cgroup/memory/x/memory.usage_in_bytes", str(30 * MIB))

    assert ram(tmp_path).available_bytes == 70 * MIB


def test_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    """Without proc and sys nothing is known, and nothing fails."""
    assert ram(tmp_path).total_bytes is None
    assert cpu(tmp_path, "x86_64").isa == ()
    assert interfaces(tmp_path) == []
    found = system(tmp_path)
    assert (found.board, found.soc, found.rtc, found.hottest_celsius, found.throttled) == ("", "", False, None, None)
    assert device_of(tmp_path, tmp_path) == ""


def test_a_board_and_its_network(tmp_path: Path) -> None:
    """Names of the device tree end with a zero; only hardware is an interface, named as profiles name it."""
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    write(tmp_path, "proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    write(tmp_path, "etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "61000\n")
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    (tmp_path / "sys/class/rtc/rtc0").mkdir(parents=True)
    for name, made in (("eth0", "device"), ("wlan0", "wireless"), ("lo", "queues")):
        (tmp_path / "sys/class/net" / name / made).mkdir(parents=True)
    write(tmp_path, "sys/class/net/eth0/speed", "1000\n")
    found = system(tmp_path)

    assert (found.board, found.soc) == ("Raspberry Pi 5 Model B Rev 1.0", "BCM2712")
    assert (found.os, found.rtc, found.hottest_celsius) == ("Debian GNU/Linux 12 (bookworm)", True, 61.0)
    assert found.throttled == 0x50005
    assert interfaces(tmp_path) == ["Gigabit Ethernet", "Wi-Fi"]


def test_a_disk_is_left_as_it_was(tmp_path: Path) -> None:
    """Both rates are found, nothing stays in the folder, and no more is written than was asked for."""
    found = disk(tmp_path, 2 * MIB)

    assert found.write_bytes_per_s > 0 < found.read_bytes_per_s
    assert found.tried_bytes == 2 * MIB
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """A folder that is not there, and a disk without room, are one sentence each."""
    with pytest.raises(StorageError, match="expected to write a file into .*name another --folder"):
        disk(tmp_path / "none")
    with pytest.raises(StorageError, match="expected 20.0 MiB free in /proc to measure it, found 0.0 MiB; free some"):
        disk(Path("/proc"))  # a file system that has no room at all


def test_the_file_system_is_the_closest(tmp_path: Path) -> None:
    """Of mounts above a folder the longest counts, also where its name has a space."""
    place = tmp_path / "a b" / "c"
    place.mkdir(parents=True)
    mounts = (
        f"/dev/sda1 / ext4 rw 0 0\n/dev/mmcblk0p2 {str(tmp_path / 'a b').replace(' ', chr(92) + '040')} ext4 rw 0 0\n"
    )
    write(tmp_path, "proc/self/mounts", mounts)

    assert device_of(place, tmp_path) == "mmcblk0p2 (ext4)"
