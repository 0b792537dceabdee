"""One program of arm64 Linux on this machine, by qemu's user mode: the board's Python, wheels and cores."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.conftest import ROOT
from tests.emulated.debian import Debian
from tests.programs import qemu_user

Cpu = Literal["cortex-a53", "cortex-a72", "cortex-a76"]
CORES: dict[Cpu, tuple[str, str]] = {  # the part in MIDR_EL1, and what Linux says of the instructions on a Pi 3, 4, 5
    "cortex-a53": ("0xd03", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
PATIENCE_S = 400
CPUINFO = """\
processor	: {number}
BogoMIPS	: 108.00
Features	: {features}
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: {part}
CPU revision	: 3

"""


@dataclass(frozen=True)
class User:
    """A Debian whose Python runs here on one kind of core; never `max`, whose integers qemu 7.2 computes wrongly."""

    folder: Path  # takes the root that the program sees
    debian: Debian
    wheels: Path
    cpu: Cpu

    def python(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the board's Python until it ends."""
        root = self._root()
        told = [qemu_user(), "-cpu", self.cpu, "-L", root, root / "usr/bin/python3.11", *arguments]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.wheels}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHOME": str(root / "usr"),
            "TZ": "UTC",
        }
        return subprocess.run(
            told, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def _root(self) -> Path:
        """The tree, and beside it what a library reads of the processor: older qemus show it this machine's own."""
        root = self.folder / self.cpu
        if not root.exists():
            root.mkdir()
            for name in ("bin", "etc", "lib", "usr"):
                (root / name).symlink_to(self.debian.tree / name)
            (root / "proc").mkdir()
            part, features = CORES[self.cpu]
            text = "".join(CPUINFO.format(number=n, features=features, part=part) for n in range(4))
            (root / "proc" / "cpuinfo").write_text(text)
        return root
