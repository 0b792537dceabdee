"""What happens once, at a board's first start: the root grows to the card's size; secrets leave the FAT partition.

A script for sh, with what every image has. It may be cut off at any point: it is done when it says so, and each step
does no harm twice.
"""

from __future__ import annotations

from devices.payload.placed import Linked, Payload, Placed
from devices.payload.places import UNITS

NAME = "edgequilt-first.service"
SCRIPT = "/usr/lib/edgequilt/first.sh"
DONE = "/var/lib/edgequilt-first.done"

_HEAD = f"""#!/bin/sh
# Once, at the first start of this card; {DONE} says that it is over.
set -u
failed=0
root="${{EDGEQUILT_ROOT:-}}"
"""

# where the root is /dev/mmcblk0p2 the disk is /dev/mmcblk0; where it is /dev/sda2 it is /dev/sda
_GROW = """
grow() {
  source=$(findmnt -n -o SOURCE /) || return 0
  number=$(echo "$source" | sed -n 's/^.*[^0-9]\\([0-9][0-9]*\\)$/\\1/p')
  disk=$(echo "$source" | sed -n 's/^\\(.*[0-9]\\)p[0-9][0-9]*$/\\1/p')
  [ -n "$disk" ] || disk=$(echo "$source" | sed 's/[0-9]*$//')
  [ -n "$number" ] && [ "$disk" != "$source" ] || return 0
  if command -v growpart >/dev/null; then
    growpart "$disk" "$number" || true  # 1: there is nothing to grow
  elif command -v sfdisk >/dev/null; then
    echo ',+' | sfdisk -q --no-reread -N "$number" "$disk" || true
    if command -v partx >/dev/null; then partx -u "$disk" || true; fi
  fi
  resize2fs "$source"
}
"""

_SCRUB = """
scrub() {
  boot=$1
  shift
  for name in "$@"; do
    file="$boot/$name"
    [ -f "$file" ] || continue
    case " $(cat "$boot/cmdline.txt" 2>/dev/null) " in
      *" systemd.run="*"/$name "*) failed=1; continue ;;  # it is still to run
    esac
    size=$(wc -c < "$file")
    dd if=/dev/zero of="$file" bs=1 count="$size" conv=notrunc 2>/dev/null
    sync
    rm -f "$file"
    if [ -e "$file" ]; then failed=1; fi
  done
  sync
}
"""


def first_payload(*, grow: bool, boot: str = "", secrets: tuple[str, ...] = (), after: str = "") -> Payload:
    """The unit and its script; nothing where there is nothing to do.

    Args:
        grow: whether the root shall grow: where the system itself does not do it.
        boot: where the FAT partition is mounted.
        secrets: names of files on it which hold any.
        after: a unit of the system that has read them by then.
    """
    if not grow and not secrets:
        return Payload()
    calls = ["grow || exit 1"] if grow else []
    calls += [f'scrub "$root{boot}" {" ".join(secrets)}'] if secrets else []
    script = _HEAD + (_GROW if grow else "") + (_SCRUB if secrets else "") + "\n" + "\n".join(calls)
    script += f'\n[ "$failed" = 0 ] || exit 1  # the next start tries again\n: > "$root{DONE}"\nsync\n'
    text = (
        f"[Unit]\nDescription=the first start of this card\nConditionPathExists=!{DONE}\n"
        f"After=local-fs.target{f' {after}' if after else ''}\n"
        f"{f'RequiresMountsFor={boot}{chr(10)}' if boot else ''}"
        f"\n[Service]\nType=oneshot\nExecStart=/bin/sh {SCRIPT}\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    path = f"{UNITS}/{NAME}"
    files = (Placed(SCRIPT, script.encode(), 0o755), Placed(path, text.encode()))
    return Payload(files, (Linked(f"{UNITS}/multi-user.target.wants/{NAME}", path),))
