"""Systems as flashing sees them, without an image: what a root and a FAT partition hold, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from devices.flash.changes import Seen
from devices.flash.systems.system import recognise
from devices.flash.wishes import Wishes
from devices.payload.placed import Payload
from tests.devices.flash.roots import CARDS, Card

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBEKsAmuHWYvFxZ1PTMRyGm5lcJ1WCBYdVYyb0ZsW8Zd somebody"
WISHES = Wishes("barn-1", "edgequilt", (KEY,), "Hof nebenan", "a long password", "DE", "Europe/Berlin")
FAT = {"firstrun": "raspberry pi os, firstrun", "preseed": "raspberry pi os, rpi-preseed"}
FAT["cloud-init"] = "raspberry pi os, cloud-init"


@dataclass(frozen=True)
class Held:
    """A `devices.flash.changes.Tree` of contents by path; a text is what a link says."""

    files: Mapping[str, bytes | str]

    def read(self, path: str) -> bytes | None:
        """A file, links followed."""
        found = self.files.get(path)
        if isinstance(found, str):
            return self.read(found if found.startswith("/") else str(PurePosixPath(path).parent / found))
        return found

    read_whole = read

    def names(self, path: str) -> tuple[str, ...]:
        """What a folder holds."""
        inside = (PurePosixPath(name) for name in self.files)
        parts = [p.relative_to(path).parts for p in inside if p.is_relative_to(path) and str(p) != path]
        return tuple(sorted({found[0] for found in parts}))


@dataclass
class After:
    """What is there after flashing: contents, links and modes by path."""

    root: dict[str, bytes | str]
    boot: dict[str, bytes | str]
    modes: dict[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    system: str = ""


def seen(card: Card) -> Seen:
    """As an image of it would be seen."""
    boot = None if card.boot is None else Held({f"/{name}": content for name, content in card.boot.items()})
    return Seen(Held(card.root), boot)


def flashed(card: Card | str, wishes: Wishes = WISHES) -> After:
    """Have what is wished written."""
    card = CARDS[card] if isinstance(card, str) else card
    system = recognise(seen(card))
    changes = system.changes(seen(card), wishes, "mark")
    root, boot = dict(card.root), {f"/{name}": content for name, content in (card.boot or {}).items()}
    found = After(root, dict(boot), said=changes.said, system=system.name)
    for payload, files in ((changes.root, found.root), (changes.boot, found.boot)):
        _placed(payload, files, found.modes)
    return found


def _placed(payload: Payload, files: dict[str, bytes | str], modes: dict[str, int]) -> None:
    for path in payload.removed:
        files.pop(path, None)
    for one in payload.files:
        files[one.path] = one.content if isinstance(one.content, bytes) else one.content.read_bytes()
        modes[one.path] = one.mode
    for link in payload.links:
        files[link.path] = link.target
