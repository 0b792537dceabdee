"""JetPack's images for the developer kits' cards: everything goes into the ext4 root, since its FAT is for firmware.

At its first start such an image asks for an account on a screen, and refuses SSH until somebody answers. The question
is left out by pointing the default target elsewhere; what it would have done (an account, a larger root) is done here.
"""

from __future__ import annotations

import re

from devices.flash.changes import Changes, Seen
from devices.flash.systems import debian
from devices.flash.wishes import Wishes
from devices.payload.placed import Linked, Payload

LOOKED_FOR = "/etc/nv_tegra_release"
DEFAULT = "/etc/systemd/system/default.target"
TARGET = "/lib/systemd/system/multi-user.target"
JETPACKS = {32: "JetPack 4", 35: "JetPack 5", 36: "JetPack 6", 38: "JetPack 7", 39: "JetPack 7.2"}


def title(seen: Seen) -> str | None:
    """What such an image calls itself: Jetson Linux R36.4 (JetPack 6)."""
    told = seen.root.read("/etc/nv_tegra_release")
    if told is None:
        return None
    major, revision = release(told)
    return f"Jetson Linux R{major}.{revision} ({JETPACKS.get(major, 'of no known JetPack')})"


def release(told: bytes) -> tuple[int, str]:
    """Major and revision of a line such as `# R36 (release), REVISION: 4.3, GCID: ...`.

    >>> release(b"# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic")
    (36, '4.3')
    """
    found = re.search(rb"R(\d+) \(release\), REVISION: ([\d.]+)", told)
    return (int(found[1]), found[2].decode()) if found else (0, "?")


def changes(seen: Seen, wishes: Wishes, mark: str) -> Changes:
    """What goes into the root."""
    made = debian.rooted(seen, wishes, grow=True)
    wizard = Payload(links=(Linked(DEFAULT, TARGET),))
    told = firmware(*release(seen.root.read("/etc/nv_tegra_release") or b""))
    return Changes(root=made.root + wizard, said=(told, *made.said))


def firmware(major: int, revision: str) -> str:
    """What the board's own firmware must be for this card to start."""
    if major == 36:
        return (
            f"this card starts on firmware of JetPack 6 (R36.x; the card is R{major}.{revision}): a board that came "
            "with JetPack 5 shows nothing until its firmware is updated (NVIDIA's guide of the developer kit)"
        )
    if major >= 38:
        return (
            f"this card starts on firmware of R{major}.x: starting it updates older firmware, and cards of R36 no "
            "longer start afterwards"
        )
    return f"this card starts on firmware of R{major}.x; update the board first if it has another"
