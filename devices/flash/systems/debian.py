"""Plain Debian for arm64, and whatever is close to it: everything is written into the root file system."""

from __future__ import annotations

from devices.flash.changes import Changes, Seen
from devices.flash.systems.accounts import user_payload
from devices.flash.systems.basics import name_payload, time_payload, watchdog_payload
from devices.flash.systems.first import first_payload
from devices.flash.systems.release import os_release
from devices.flash.systems.wireless import wifi_payload
from devices.flash.wishes import Wishes

LOOKED_FOR = "ID=debian or ID_LIKE with debian in /etc/os-release"


def title(seen: Seen) -> str | None:
    """What such an image calls itself."""
    told = os_release(seen.root)
    alike = {told.get("ID", ""), *told.get("ID_LIKE", "").split()}
    return told.get("PRETTY_NAME", "Debian") if alike & {"debian", "ubuntu"} else None


def changes(seen: Seen, wishes: Wishes, mark: str) -> Changes:
    """What goes into the root."""
    return rooted(seen, wishes, grow=True)


def rooted(seen: Seen, wishes: Wishes, *, grow: bool) -> Changes:
    """What goes into the root of any system that is close to Debian.

    Args:
        seen: the image.
        wishes: of the user.
        grow: whether the root shall grow at the first start; some systems do that themselves.
    """
    wifi, lacks = wifi_payload(seen.root, wishes)
    root = (
        name_payload(seen.root, wishes)
        + time_payload(wishes)
        + watchdog_payload(wishes)
        + wifi
        + user_payload(seen.root, wishes)
        + first_payload(grow=grow)
    )
    return Changes(root=root, said=(lacks,) if lacks else ())
