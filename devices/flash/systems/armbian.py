"""Armbian: its first login asks questions, which a file answers before: `/root/.not_logged_in_yet`.

Without a login nothing is asked and services start all the same, so the file matters to who logs in.
"""

from __future__ import annotations

import shlex

from devices.flash.changes import Changes, Seen
from devices.flash.systems import debian
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload, Placed

LOOKED_FOR = "/etc/armbian-release"
PRESET = "/root/.not_logged_in_yet"


def title(seen: Seen) -> str | None:
    """What such an image calls itself."""
    told = seen.root.read("/etc/armbian-release")
    if told is None:
        return None
    lines = dict(line.partition("=")[::2] for line in told.decode(errors="replace").splitlines() if "=" in line)
    return " ".join(filter(None, ("Armbian", lines.get("BOARD_NAME", "").strip('"'), lines.get("VERSION", ""))))


def changes(seen: Seen, wishes: Wishes, mark: str) -> Changes:
    """What goes into the root of Debian, and the answers; Armbian grows its root itself."""
    made = debian.rooted(seen, wishes, grow=False)
    answers = {"PRESET_NET_CHANGE_DEFAULTS": "0", "PRESET_LOCALE": "C.UTF-8"}
    answers |= {"PRESET_TIMEZONE": wishes.timezone} if wishes.timezone else {}
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in answers.items())
    return Changes(root=made.root + Payload((Placed(PRESET, text.encode(), 0o600),)), said=made.said)
