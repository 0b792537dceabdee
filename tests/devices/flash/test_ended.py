"""A run that ends between any two of its steps: no half card boots, no secret is left, and the next run works."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("packaging")

from devices.flash.cli import flash
from devices.flash.work import PREFIX
from devices.flash.writing import HELD_BACK
from devices.payload.target import Target
from tests.conftest import ROOT
from tests.devices.flash import cards
from tests.devices.flash.images import make_image
from tests.devices.flash.roots import CARDS
from tests.devices.payload.houses import house
from wire.token import Token

TOKEN = Token(("hub.example:9443",), "farm", "barn-1", b"s" * 16, "ab" * 32).text
SYSTEM = CARDS["raspberry pi os, firstrun"]
SOME = ("debugfs has written", "half is written", "it is in its place")  # of all steps, for every day


@dataclass(frozen=True)
class Bench:
    """A folder with an image, a card, and a place for temporary files."""

    folder: Path
    words: tuple[str, ...]

    @property
    def card(self) -> Path:
        return self.folder / "card"

    @property
    def out(self) -> Path:
        return self.folder / "out.img"

    def run(self, *, card: bool) -> int:
        """In this process."""
        return flash([*self.words, *self.where(card=card)])

    def where(self, *, card: bool) -> list[str]:
        return ["--to", str(self.card), "--yes", "--serial", cards.SERIAL] if card else ["--to", str(self.out)]

    def killed(self, step: str, *, card: bool) -> int:
        """In a process of its own, which dies as a step begins; returns how it ended."""
        words = [sys.executable, "-m", "tests.devices.flash.cards", step, "SIGKILL", str(self.card) if card else "-"]
        environment = {**os.environ, "TMPDIR": str(self.folder / "tmp")}
        command = [*words, *self.words, *self.where(card=card)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode

    def left(self) -> list[Path]:
        """Folders of runs."""
        return [*self.folder.glob(f"{PREFIX}*"), *(self.folder / "tmp").iterdir()]

    def telling(self) -> list[Path]:
        """Files that hold the token, but for the one that was given."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and path.name not in ("token", "card"))
        return [path for path in files if TOKEN.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image and wheels, made once."""
    folder = tmp_path_factory.mktemp("given")
    make_image(folder / "system.img", SYSTEM.root, SYSTEM.boot, root_sectors=40960)  # 20 MiB: it must grow
    (folder / "wheels").mkdir()
    house(folder / "wheels", Target(SYSTEM.python, SYSTEM.glibc))
    return folder


@pytest.fixture
def bench(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A fresh one, whose card was used before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(given / "cache"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "token").write_text(TOKEN)
    cards.put_in(tmp_path / "card")
    words = ["--device", "raspberry-pi-5-4gb", "--image", str(given / "system.img"), "--force"]
    words += ["--claim-file", str(tmp_path / "token"), "--wheelhouse", str(given / "wheels")]
    words += ["--report", str(tmp_path / "report.json"), "--json", "--hostname", "barn-1"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return Bench(tmp_path, tuple(words))


def head(path: Path) -> bytes:
    """What a board would look at first."""
    with path.open("rb") as file:
        return file.read(HELD_BACK)


def require_no_half(bench: Bench, step: str, *, card: bool) -> None:
    """Not there, not begun, empty at its beginning, or whole."""
    order = list(cards.STEPS)
    begun, whole = order.index(step) >= order.index("the rest follows"), step in cards.WHOLE
    if not card:
        assert bench.out.exists() == (whole and step != "the first block is read back")
        return
    first = head(bench.card)
    if whole:
        assert first[510:512] == b"\x55\xaa"
    else:
        assert first == bytes(HELD_BACK) if begun else first.startswith(b"used")


def require_next(bench: Bench, *, card: bool) -> None:
    """The next run works, and leaves nothing."""
    assert bench.run(card=card) == 0
    assert bench.left() == []
    assert bench.telling() == ([] if card else [bench.out])
    assert head(bench.card if card else bench.out)[510:512] == b"\x55\xaa"


def steps(*, card: bool) -> list[str]:
    """Those that a run onto a card, or into a file, comes by."""
    return [step for step in cards.STEPS if not card or step not in cards.FILE_ONLY]


def require_interrupted(bench: Bench, step: str, number: signal.Signals, *, card: bool) -> None:
    """The run ends at once, and nothing that it made is left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let it be ignored by what runs behind them
    cards.put_in(bench.card)
    bench.out.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        happened = cards.stopping(patch, step, lambda: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt):
            bench.run(card=card)
    assert happened == [step]
    if step == "the first block is read back" and card:  # it is blanked again, since nobody compared it
        assert head(bench.card) == bytes(HELD_BACK)
    else:
        require_no_half(bench, step, card=card)
    assert bench.left() == []
    assert bench.telling() == ([bench.out] if bench.out.exists() else [])


@pytest.mark.parametrize(("number", "card"), [(signal.SIGTERM, True), (signal.SIGINT, False)], ids=["TERM", "INT"])
def test_a_run_that_is_interrupted(number: signal.Signals, card: bool, bench: Bench) -> None:
    """By Ctrl-C or SIGTERM, after secrets were placed, while it writes, and when a file is in its place."""
    with pytest.MonkeyPatch.context() as known:
        if card:
            cards.with_card(known, bench.card)
        for step in SOME[: 2 if card else 3]:
            require_interrupted(bench, step, number, card=card)


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("card", [True, False], ids=["card", "file"])
def test_a_run_that_is_interrupted_anywhere(number: signal.Signals, card: bool, bench: Bench) -> None:
    """The same as each step begins; then one that is left alone."""
    with pytest.MonkeyPatch.context() as known:
        if card:
            cards.with_card(known, bench.card)
        for step in steps(card=card):
            require_interrupted(bench, step, number, card=card)
        require_next(bench, card=card)


def require_killed(bench: Bench, step: str, *, card: bool) -> None:
    """What a run that was killed there leaves, and that only its user sees secrets."""
    cards.put_in(bench.card)
    bench.out.unlink(missing_ok=True)
    assert bench.killed(step, card=card) == -signal.SIGKILL, step
    require_no_half(bench, step, card=card)
    for path in bench.telling():
        if path != bench.out:
            (folder,) = (parent for parent in path.parents if parent.name.startswith(PREFIX))
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(bench.left()) <= 2, "the run before was not swept"


@pytest.mark.parametrize(("step", "card"), [(SOME[0], False), (SOME[1], True), (SOME[1], False)])
def test_a_run_that_is_killed(step: str, card: bool, bench: Bench) -> None:
    """SIGKILL: what it leaves is for its user alone, no half card boots, and the next run sweeps and works."""
    with pytest.MonkeyPatch.context() as known:
        require_killed(bench, step, card=card)
        if card:
            cards.with_card(known, bench.card)
        require_next(bench, card=card)


@pytest.mark.heavy
@pytest.mark.parametrize("card", [True, False], ids=["card", "file"])
def test_a_run_that_is_killed_anywhere(card: bool, bench: Bench) -> None:
    """The same as each step begins, one run after the other in the same place."""
    for step in steps(card=card):
        require_killed(bench, step, card=card)
    with pytest.MonkeyPatch.context() as known:
        if card:
            cards.with_card(known, bench.card)
        require_next(bench, card=card)
