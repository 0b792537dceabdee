"""Several cards one after the other, changed by somebody at a terminal, and what the reports say of them."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("packaging")

from devices.flash.ext4 import Ext4
from devices.flash.partitions import read_partitions
from devices.flash.work import PREFIX
from devices.payload.places import CLAIM
from devices.payload.target import Target
from tests.conftest import ROOT
from tests.devices.flash import cards
from tests.devices.flash.images import make_image
from tests.devices.flash.roots import CARDS
from tests.devices.payload.houses import house
from wire.files import file_digest
from wire.token import Token

SYSTEM = CARDS["debian"]
GOLDEN = Path(__file__).parent / "golden" / "report.json"
TOKENS = [Token(("hub.example:9443",), "farm", f"barn-{n}", bytes([n]) * 16, "ab" * 32).text for n in (1, 2)]
WAIT_S = 300


@dataclass
class Terminal:
    """Somebody who reads and answers, once each thing is asked."""

    answers: list[tuple[str, Callable[[], str]]]
    shown: str = field(default="")

    def sit(self, words: list[str], environment: dict[str, str]) -> tuple[int, str]:
        """Run a program on it; returns how it ended and what it printed."""
        ours, theirs = pty.openpty()
        pipes: dict[str, Any] = {"stdin": theirs, "stderr": theirs, "stdout": subprocess.PIPE}
        program = subprocess.Popen(words, cwd=ROOT, env=environment, **pipes)
        os.close(theirs)
        seen = 0
        try:
            while True:
                self.shown += os.read(ours, 4096).decode(errors="replace")
                if self.answers and self.answers[0][0] in self.shown[seen:]:
                    seen = len(self.shown)
                    os.write(ours, f"{self.answers.pop(0)[1]()}\n".encode())
        except OSError:  # the program has closed it: it is over
            pass
        finally:
            os.close(ours)
        told, _ = program.communicate(timeout=WAIT_S)
        return program.returncode, told.decode()


@dataclass
class Desk:
    """A folder with all that is needed."""

    folder: Path

    @property
    def card(self) -> Path:
        return self.folder / "card"

    def words(self, *more: str) -> list[str]:
        (self.folder / "tokens").write_text("\n".join(TOKENS))
        given = ["--device", "raspberry-pi-5-4gb", "--image", str(self.folder / "system.img"), "--to", str(self.card)]
        given += ["--claim-file", str(self.folder / "tokens"), "--wheelhouse", str(self.folder / "wheels")]
        given += ["--report", str(self.folder / "cards.json"), "--hostname", "barn", "--count", "2"]
        return [sys.executable, "-m", "tests.devices.flash.cards", "-", "-", str(self.card), *given, *more]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp")}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One for all."""
    folder = tmp_path_factory.mktemp("desk")
    make_image(folder / "system.img", SYSTEM.root, SYSTEM.boot)
    for name in ("wheels", "tmp"):
        (folder / name).mkdir()
    house(folder / "wheels", Target(SYSTEM.python, SYSTEM.glibc))
    cards.put_in(folder / "card")
    return Desk(folder)


def root(image: Path) -> Ext4:
    """Of a card."""
    return Ext4(image, next(part for part in read_partitions(image).parts if part.holds == "ext4"))


@pytest.fixture(scope="module")
def both(desk: Desk) -> tuple[Desk, Terminal, str]:
    """Two cards, the first taken out when the second is asked for."""

    def swap() -> str:
        desk.card.rename(desk.folder / "first")
        cards.put_in(desk.card)
        return ""

    serial = "type its serial to go on", lambda: cards.SERIAL
    terminal = Terminal([serial, ("put in card 2 of 2, then press enter", swap), serial])
    code, told = terminal.sit(desk.words(), desk.environment())
    assert code == 0, terminal.shown
    assert terminal.answers == []
    return desk, terminal, told


def test_each_card_is_a_board_of_its_own(both: tuple[Desk, Terminal, str]) -> None:
    """Token, name, digest: of each its own, and a report for each that the next one leaves alone."""
    desk, terminal, told = both
    reports = [json.loads((desk.folder / f"cards-{number}.json").read_text()) for number in (1, 2)]
    assert not (desk.folder / "cards.json").exists()
    each = zip((desk.folder / "first", desk.card), reports, TOKENS, strict=True)
    for number, (image, report, token) in enumerate(each, 1):
        assert (root(image).read(CLAIM) or b"").decode().strip() == token
        assert root(image).read("/etc/hostname") == f"barn-{number}\n".encode()
        assert (report["device"], report["written_to"]["serial"]) == (f"barn-{number}", cards.SERIAL)
        with image.open("rb") as file:
            assert hashlib.sha256(file.read(report["size_bytes"])).hexdigest() == report["sha256"]
        assert f"cards-{number}.json says what" in told
        assert token not in terminal.shown + told + json.dumps(report)
    assert not list((desk.folder / "tmp").glob(f"{PREFIX}*"))


def test_the_report_is_as_it_was(both: tuple[Desk, Terminal, str]) -> None:
    """An inventory reads it: its fields and words are those of the golden one, but for what differs by run and release.

    `python -m tests.devices.flash.test_count REPORT` prints a report as it is compared.
    """
    desk, _, _ = both
    report = json.loads((desk.folder / "cards-1.json").read_text())
    assert report["image_sha256"] == file_digest(desk.folder / "system.img")
    assert compared(report) == json.loads(GOLDEN.read_text())


def test_a_wrong_serial_writes_nothing(desk: Desk) -> None:
    """Whoever types another one has another card in mind."""
    cards.put_in(desk.card)
    terminal = Terminal([("type its serial to go on", lambda: "0815")])
    code, told = terminal.sit(desk.words(), desk.environment())
    assert (code, told) == (2, "")
    assert f"expected the serial {cards.SERIAL} of" in terminal.shown
    with desk.card.open("rb") as file:
        assert file.read(4096) == b"used" * 1024
    assert not list((desk.folder / "tmp").glob(f"{PREFIX}*"))


def compared(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs by release, machine and minute."""
    files = [one for one in report["placed"]["root"]["files"] if "/releases/" not in one["path"]]
    text = json.dumps({**report, "placed": {**report["placed"], "root": {**report["placed"]["root"], "files": files}}})
    text = re.sub(r'"[0-9a-f]{64}"', '"DIGEST"', text.replace(report["release"], "RELEASE"))
    told = json.loads(text)
    told["seconds"] = dict.fromkeys(told["seconds"], 0)
    return {**told, "edgequilt": "VERSION", "size_bytes": 0, "written_to": {**told["written_to"], "path": "/dev/sdX"}}


if __name__ == "__main__":
    print(json.dumps(compared(json.loads(Path(sys.argv[1]).read_text())), indent=1))
