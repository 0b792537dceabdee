"""`resize2fs` for a partition of a file, which has no device: taken out, grown, and put back. DISK START PROGRAM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from devices.flash.partitions import read_partitions
from devices.flash.tools import tool


def main(disk: Path, start: int, program: str) -> int:
    """Grow the file system of the partition that begins at a byte to the partition's size."""
    part = next(one for one in read_partitions(disk).parts if one.start_bytes == start)
    alone = disk.with_name("alone")
    with disk.open("rb+") as whole:
        whole.seek(start)
        alone.write_bytes(whole.read(part.size_bytes))
        subprocess.run([tool("e2fsck"), "-fp", alone], check=True, stdout=subprocess.DEVNULL)
        code = subprocess.run([program, alone], check=False, stdout=subprocess.DEVNULL).returncode
        whole.seek(start)
        whole.write(alone.read_bytes())
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
