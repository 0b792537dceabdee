"""Fleet files: what becomes of a good one, and that a bad one is told everything at once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from console.errors import BadData, StorageError, UsageError
from devices.enough import KnownBoard
from devices.fleet import Fleet, Settings, known_boards
from devices.fleet_file import read_fleet, read_stations
from devices.latency import Curve, Latency
from devices.memory import MIB
from devices.profile import FOLDER, load, names
from devices.profile_text import profile_text
from devices.runtimes import opset_for
from devices.times import UNKNOWN
from tests.conftest import ROOT

SETTINGS = Settings("train", "int8", ("int8", "fp32"))


def read(tmp_path: Path, text: str, settings: Settings = SETTINGS) -> Fleet:
    """A fleet from the text of its file."""
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return read_fleet(path, settings)


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """The example is a fleet: one device alone, two in a chain, budgets and runtimes from where they were named."""
    text = (ROOT / "docs" / "fleet.md").read_text().split("```toml\n")[1].split("```")[0]
    fleet = read(tmp_path, text)

    assert [board.name for board in fleet.boards] == ["gate"]
    assert (fleet.boards[0].budget_bytes, fleet.boards[0].rank) == (180 * MIB, 2)
    (chain,) = fleet.chains
    assert (chain.name, chain.objective, chain.mode) == ("yard", "traffic", "train")
    barn, loft = chain.stations
    assert (barn.board.profile, barn.board.budget_bytes) == (
        "raspberry-pi-4-2gb",
        load("raspberry-pi-4-2gb").budget_bytes,
    )
    assert (loft.board.profile, loft.board.budget_bytes, loft.speed) == ("", 700 * MIB, UNKNOWN)
    (parted,) = fleet.splits
    assert [(front.board.name, front.border) for front in parted.fronts] == [("shed", None), ("pump", 24)]
    assert parted.tail.name == "hall"
    assert [board.name for board in fleet.everyone] == ["gate", "barn", "loft", "shed", "pump", "hall"]
    assert opset_for([b.onnxruntime_max for b in fleet.everyone if b.onnxruntime_max]).runtime == "1.23.2"


def test_a_device_overrules_the_command_line(tmp_path: Path) -> None:
    """Mode, format, budget in bytes, rates and links are the file's where it has them."""
    fleet = read(
        tmp_path,
        """
        [[device]]
        name = "b"
        profile = "raspberry-pi-5-2gb"
        mode = "serve"
        link_bytes_per_s = 1000
        [[device]]
        name = "a"
        budget = 99000000
        mode = "serve"
        quant = "fp32"
        flops_per_s = 5
        bytes_per_s = 6
        link_bytes_per_s = 7
        [[chain]]
        name = "c"
        devices = ["b", "a"]
        objective = "latency"
        links_bytes_per_s = [8]
        """,
    )
    (chain,) = fleet.chains
    b, a = chain.stations
    assert (a.board.budget_bytes, a.board.mode, a.board.quant) == (99_000_000, "serve", "fp32")
    assert (a.speed.flops_per_s, a.speed.bytes_per_s, a.speed.link_bytes_per_s) == (5, 6, 7)
    assert (b.board.quant, b.speed.link_bytes_per_s, b.link_bytes_per_s, a.link_bytes_per_s) == ("int8", 1000, 8, None)
    assert b.speed.source.startswith("the fleet file (link_bytes_per_s), what it does not say by ")


def test_another_link_is_the_same_processor(tmp_path: Path) -> None:
    """What nodes take on a board stays where the file names its link alone; with other rates it is another board's."""
    table = Latency("measured: a test", (Curve("Add", "fp32", 1, ((1000,),), (5000,)),))
    known = replace(load("raspberry-pi-5-2gb"), id="probed", latency=table)
    (tmp_path / "probed.toml").write_text(profile_text(known))
    (tmp_path / "fleet.toml").write_text(
        """
        [[device]]
        name = "a"
        profile = "probed"
        link_bytes_per_s = 1000
        [[device]]
        name = "b"
        profile = "probed"
        bytes_per_s = 1000
        """
    )
    a, b = read_stations(tmp_path / "fleet.toml", replace(SETTINGS, profiles=tmp_path)).values()
    assert (a.speed.link_bytes_per_s, a.speed.latency, b.speed.latency) == (1000, table, None)


BAD = {
    "all problems at once": (
        """
        device = [
            { name = "a" },
            { name = "b", profile = "raspberry-pi-9" },
            { name = "c", profile = "jetson-nano-4gb" },
            { name = "d", budget = "lots" },
            { name = "e", budget = "1GiB", quant = "int3" },
            { name = "f", budget = "1GiB", colour = "red" },
            { name = "g", budget = "1GiB", flops_per_s = 3 },
        ]
        chain = [{ name = "k", devices = ["a", "nobody"], links_bytes_per_s = [1, 2] }, { name = "a", devices = ["f"] }]
        """,
        [
            "device a: expected a profile or a budget",
            "device b: expected the name of a board, found 'raspberry-pi-9'",
            "device c: expected a board that can run an agent",
            "device d: expected a size such as 200MiB",
            "device e: expected quant as one of int8, fp32",
            "device f.colour: not a field",
            "device g: expected flops_per_s, bytes_per_s, link_bytes_per_s together",
            "chain k: expected devices of this file, found nobody",
            "chain k: expected a link fewer than devices, found 2",
            "a: a device and a chain of one name",
            "chain a: expected two devices at least, found 1",
        ],
    ),
    "fields of the wrong type": (
        'device = [{ name = "A b", budget = "1GiB", rank = 0, mode = "fly" }]\nchain = 3',
        [
            "device[0].name",
            "device[0].rank: expected at least 1",
            "device[0].mode: expected one of",
            "chain: expected a",
        ],
    ),
    "contradictions": (
        """
        device = [
            { name = "a", budget = "1GiB" },
            { name = "a", budget = "1GiB" },
            { name = "b", budget = "1GiB", mode = "serve" },
        ]
        chain = [
            { name = "k", devices = ["a", "b"], objective = "throughput" },
            { name = "l", devices = ["b", "a"] },
        ]
        """,
        [
            "device a: found 2 times",
            "device b: in 2 places of chains",
            "chain k: expected one mode for all of it, found serve and train",
            "chain k: expected rates of a, b for objective throughput",
        ],
    ),
    "splits": (
        """
        device = [
            { name = "a", budget = "1GiB" },
            { name = "b", budget = "1GiB" },
            { name = "c", budget = "1GiB" },
        ]
        chain = [{ name = "k", devices = ["a", "b"] }]
        split = [
            { tail = "c", devices = ["a", "nobody"], borders = [1] },
            { tail = "c", devices = [], depth = 3 },
        ]
        """,
        [
            "device c: in 2 places of splits",
            "device a: in a chain and in a split",
            "split of tail c: expected devices of this file, found nobody",
            "split of tail c: expected as many borders as devices, found 1",
            "split of tail c: expected one device at least, found none",
            "split of tail c.depth: not a field",
        ],
    ),
    "nobody": ("device = []", ["device: expected one at least"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_fleet_is_told_everything_at_once(case: str, tmp_path: Path) -> None:
    """Every problem of a file is in one message, by the name of the device or the chain."""
    text, expected = BAD[case]
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    missing = [words for words in expected if words not in str(caught.value)]
    assert not missing, str(caught.value)


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    """A file that is absent, or not TOML, is said to be so."""
    with pytest.raises(StorageError, match="expected a TOML file"):
        read_fleet(tmp_path / "none.toml", SETTINGS)
    with pytest.raises(BadData, match="expected TOML"):
        read(tmp_path, "device = [")


def test_known_boards_are_those_that_could_take_an_export(tmp_path: Path) -> None:
    """Every profile with an agent and its budget; of the user's folder those that can be read and are new enough."""
    plain = known_boards()
    assert {one.name for one in plain} == {name for name in names() if load(name).agent == "yes"}
    assert all(one.budget_bytes == load(one.name).budget_bytes for one in plain)
    text = (FOLDER / "raspberry-pi-4-2gb.toml").read_text().replace("raspberry-pi-4-2gb", "NAME")
    newest = re.search(r'onnxruntime_max = "(.+)"', text)
    assert newest is not None
    (tmp_path / "attic.toml").write_text(text.replace("NAME", "attic"))
    (tmp_path / "old.toml").write_text(text.replace("NAME", "old").replace(newest[1], "1.17.3"))
    (tmp_path / "broken.toml").write_text("id =")
    more = known_boards(tmp_path)
    assert set(more) - set(plain) == {KnownBoard("attic", load("raspberry-pi-4-2gb").budget_bytes)}
    assert set(plain) < set(more)
