"""A board that has a bundle, and a hub that names another one: what both hold, in one folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from edge.shelf import Kept, Shelf
from tests.conftest import ROOT
from tests.edge.boards import make_board
from tests.edge.renewal.program import NAME
from tests.edge.slots.board import live
from tests.edge.slots.strike import Fault, put
from tests.edge.test_renewing import golden_bundle
from wire.bundle import MANIFEST, SIGNATURE, open_bundle
from wire.envelope import Trust
from wire.files import file_digest
from wire.keys import read_public_key
from wire.manifest import parse_manifest


@dataclass(frozen=True)
class Made:
    """What all boards of the tests begin with: made once, and copied."""

    folder: Path
    old: str
    new: str
    wrong: str  # it computes something else than it says


def make(folder: Path) -> Made:
    """Keys, data, two bundles of one publisher; the hub's shop has both, the board the first."""
    made = make_board(folder / "made", NAME)
    root = folder / "root"
    shutil.copytree(made.folder / "keys", root / "keys")
    shutil.copy(made.folder / "data.jsonl", root / "data.jsonl")
    old = golden_bundle(folder / "one", made.publisher)
    new = golden_bundle(folder / "two", made.publisher, seed=1)
    wrong = golden_bundle(folder / "three", made.publisher, seed=2, golden_off=0.5)
    for name, bundle in (("one", old), ("two", new), ("three", wrong)):
        _serve(folder / name, bundle, root / "shop")
    shelf = Shelf(root / "state")
    shutil.copytree(folder / "one", shelf.folder(old))
    shelf.switch(old)
    return Made(root, old, new, wrong)


def _serve(folder: Path, bundle: str, shop: Path) -> None:
    (shop / "blobs").mkdir(parents=True, exist_ok=True)
    place = shop / "bundles" / bundle
    place.mkdir(parents=True)
    for name in (MANIFEST, SIGNATURE):
        shutil.copy(folder / name, place / name)
    for file in parse_manifest((folder / MANIFEST).read_bytes()).files:
        shutil.copy(folder / file.path, shop / "blobs" / file.sha256)


class Board:
    """One of them, whose hub names a bundle that is `good`, `wrong`, or `sick`: damaged as soon as it is in use."""

    def __init__(self, made: Made, root: Path, manner: str = "good") -> None:
        self.old, self.new, self.root = made.old, made.new, root
        shutil.copytree(made.folder, root, dirs_exist_ok=True)
        (root / "order").write_text(made.wrong if manner == "wrong" else made.new)
        (root / manner).touch()

    def strike(self, fault: Fault) -> None:
        """Have something go wrong."""
        self._times = fault.times
        put(self.root / "fault.json", fault)

    @property
    def struck(self) -> int:
        """How often it did."""
        return self._times - int(json.loads((self.root / "fault.json").read_text())["times"])

    def live(self) -> int:
        """Start the agent as systemd does until it has nothing to do; how often."""
        environment = {"EDGEQUILT_HOME": str(self.root), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return live([sys.executable, "-m", "tests.edge.renewal.program"], environment, self.root)

    @property
    def kept(self) -> Kept:
        """The record of bundles."""
        return Shelf(self.root / "state").kept

    def tree(self) -> dict[str, str]:
        """Every file of every bundle that is here: its digest by its path."""
        bundles = self.root / "state" / "bundles"
        return {str(p.relative_to(bundles)): file_digest(p) for p in sorted(bundles.rglob("*")) if p.is_file()}

    def bundles(self) -> set[str]:
        """Which are here."""
        return {path.name for path in (self.root / "state" / "bundles").iterdir()}

    def whole(self, bundle: str) -> bool:
        """Whether a bundle is here, signed, and every file of it as its manifest says; and nothing else with them."""
        folder = self.root / "state" / "bundles" / bundle
        trust = Trust([read_public_key(self.root / "keys" / "tester.pub", "publisher")])
        found = open_bundle(folder, trust)
        files = {file.path: file.sha256 for file in found.manifest.files}
        here = {str(p.relative_to(folder)): file_digest(p) for p in folder.rglob("*") if p.is_file()}
        return {name: value for name, value in here.items() if name not in (MANIFEST, SIGNATURE)} == files

    def told(self) -> list[str]:
        """What the hub heard of failures."""
        book = self.root / "told"
        return book.read_text().splitlines() if book.exists() else []
