"""What a command line asks for, and what is refused before torch is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.errors import UsageError
from devices.fleet import Fleet
from devices.memory import MIB
from devices.profile import NoAgent, UnknownProfile, load
from export.arguments import fleet, parser
from export.arguments_plan import sizes
from export.arguments_split import check_split

ZERO, FOUR = "raspberry-pi-zero-2w", "raspberry-pi-4-2gb"


def asked(*words: str, labels: bool = True) -> Fleet:
    """The fleet of a command line."""
    return fleet(parser().parse_args(["model", "--out", "out", *words]), labels=labels)


def test_boards_and_a_chain() -> None:
    """`--device` gives complete bundles, `--across` a chain in its order; budgets and ranks go to both by name."""
    chained = ["--across", f"{FOUR},{ZERO}", "--objective", "latency"]
    found = asked("--device", ZERO, *chained, "--budget", f"{FOUR}=200MiB", "--rank", "3")
    assert [(b.name, b.budget_bytes, b.rank) for b in found.boards] == [(ZERO, load(ZERO).budget_bytes, 3)]
    (chain,) = found.chains
    assert [(s.board.name, s.board.rank) for s in chain.stations] == [(FOUR, 3), (ZERO, 3)]
    assert (chain.stations[0].board.budget_bytes, chain.objective, chain.name) == (200 * MIB, "latency", "")


def test_two_boards_of_one_kind_in_a_chain() -> None:
    """A chain may have a kind of board twice; a complete bundle is made once."""
    (chain,) = asked("--across", f"{ZERO},{ZERO}").chains
    assert [s.board.name for s in chain.stations] == [ZERO, ZERO]
    assert len(asked("--device", ZERO, "--device", ZERO).boards) == 1


def test_a_budget_alone_is_a_board() -> None:
    """Without any board, `--budget SIZE` is one called `board`; `NAME=SIZE` gives a NAME that is no profile."""
    (alone,) = asked("--budget", "200MiB").boards
    assert (alone.name, alone.budget_bytes, alone.profile, alone.onnxruntime_max) == ("board", 200 * MIB, "", None)
    shed, zero = asked("--device", "shed", "--device", ZERO, "--budget", "shed=90MiB").boards
    assert (shed.name, shed.budget_bytes, zero.budget_bytes) == ("shed", 90 * MIB, load(ZERO).budget_bytes)


def test_the_mode_follows_the_labels() -> None:
    """With classes a bundle trains, without it serves, unless a mode is named."""
    assert asked("--device", ZERO).boards[0].mode == "train"
    assert asked("--device", ZERO, labels=False).boards[0].mode == "serve"
    assert asked("--device", ZERO, "--mode", "train-forward", labels=False).boards[0].mode == "train-forward"


def test_fronts_and_their_tail() -> None:
    """`--split` names boards with fronts, with or without a unit; the tail is a server where none is named."""
    (found,) = asked("--split", ZERO, "--split", f"{FOUR}=12", "--budget", f"{ZERO}=100MiB", "--rank", "3").splits
    assert [(f.board.name, f.board.budget_bytes, f.border) for f in found.fronts] == [
        (ZERO, 100 * MIB, None),
        (FOUR, load(FOUR).budget_bytes, 12),
    ]
    assert (found.tail.name, found.tail.profile, found.tail.rank) == ("server", "server", 3)
    (other,) = asked("--split", f"{ZERO}=auto", "--tail", "hall", "--budget", "hall=9GiB").splits
    assert (other.fronts[0].border, other.tail.name, other.tail.budget_bytes) == (None, "hall", 9 << 30)


@pytest.mark.parametrize(
    ("words", "labels", "expected"),
    [
        ([], False, "expected a split to train, found mode serve"),
        (["--sequence", "64,32"], True, "expected one --sequence for a split"),
        (["--trunk", "apart"], True, "expected no --trunk apart for a split"),
        (["--device", ZERO], True, f"expected each board in one place, found {ZERO} in several"),
    ],
)
def test_what_a_split_cannot_have(words: list[str], labels: bool, expected: str) -> None:
    """Options that do not go with a split are refused before a model is read."""
    options = parser().parse_args(["model", "--out", "out", "--split", ZERO, *words])
    with pytest.raises(UsageError, match=expected):
        check_split(options, fleet(options, labels=labels))


def test_a_fleet_file_stands_beside_boards(tmp_path: Path) -> None:
    """Devices of the file come after those of the line; a device of both is refused."""
    path = tmp_path / "fleet.toml"
    path.write_text('device = [{ name = "a", budget = "1GiB" }]')
    assert [b.name for b in asked("--fleet", str(path), "--device", ZERO).boards] == [ZERO, "a"]
    with pytest.raises(UsageError, match="expected each device once, found a in --device and in --fleet"):
        asked("--fleet", str(path), "--device", "a", "--budget", "a=1GiB")


def test_the_command_line_goes_before_a_fleet_file(tmp_path: Path) -> None:
    """As a refusal advises: a budget and a rank by name, for devices alone and in chains, or for all."""
    path = tmp_path / "fleet.toml"
    devices = "".join(f'[[device]]\nname = "{name}"\nbudget = "90MiB"\nrank = 3\n' for name in "abc")
    path.write_text(devices + '[[chain]]\nname = "yard"\ndevices = ["b", "c"]\n')
    made = asked("--fleet", str(path), "--budget", "b=1GiB", "--rank", "c=5", "--budget", "a=80MiB")
    assert [(b.name, b.budget_bytes >> 20, b.rank) for b in made.everyone] == [
        ("a", 80, 3),
        ("b", 1024, 3),
        ("c", 90, 5),
    ]
    assert {b.budget_bytes >> 20 for b in asked("--fleet", str(path), "--budget", "70MiB").everyone} == {70}
    with pytest.raises(UsageError, match="expected --budget NAME=VALUE for one of a, b, c, found 'd=1GiB'"):
        asked("--fleet", str(path), "--budget", "d=1GiB")


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    """`--profiles FOLDER` adds to the boards that are known."""
    text = (Path(load.__code__.co_filename).parent / "profiles" / f"{ZERO}.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace(f'id = "{ZERO}"', 'id = "mine"'))
    (board,) = asked("--profiles", str(tmp_path), "--device", "mine").boards
    assert (board.profile, board.budget_bytes) == ("mine", load(ZERO).budget_bytes)


def test_sizes() -> None:
    """`--size NAME=N` may be repeated, for different names."""

    def given(*texts: str) -> dict[str, int]:
        return sizes(parser().parse_args(["m", "--out", "o", *(w for t in texts for w in ("--size", t))]))

    assert given("frames=100", "bins=64", "bins=64") == {"frames": 100, "bins": 64}
    for bad in ("frames", "frames=", "frames=0", "=3", "frames=-1"):
        with pytest.raises(UsageError, match="expected --size NAME=N"):
            given(bad)
    with pytest.raises(UsageError, match="expected one --size for bins, found 64 and 65"):
        given("bins=64", "bins=65")


REFUSED: dict[str, tuple[list[str], type[Exception], str]] = {
    "nothing to plan for": (
        [],
        UsageError,
        "--device NAME, --across A,B, --split A, --fleet FILE.toml, --budget SIZE or --plan PLAN.json",
    ),
    "a chain of one": (["--across", ZERO], UsageError, "expected --across A,B with two boards or more"),
    "a gap in a chain": (["--across", f"{ZERO},,{FOUR}"], UsageError, "expected --across A,B"),
    "an objective of nothing": (
        ["--device", ZERO, "--objective", "latency"],
        UsageError,
        "expected --objective beside --across",
    ),
    "an unknown objective": (["--across", f"{ZERO},{FOUR}", "--objective", "best"], UsageError, "--objective"),
    "a board that is not known": (["--device", "raspberry-pi-9"], UnknownProfile, "--budget raspberry-pi-9=SIZE takes"),
    "a board without an agent": (["--device", "jetson-nano-4gb"], NoAgent, "expected a board that can run an agent"),
    "a budget of nobody": (
        ["--budget", "shed=1GiB"],
        UsageError,
        "expected what to export for as --device NAME",
    ),
    "a budget of another": (["--device", ZERO, "--budget", "shed=1GiB"], UsageError, "--budget NAME=VALUE for one of"),
    "no budget at all": (["--device", ZERO, "--budget", "0"], UsageError, "--budget of at least 1 byte"),
    "a size that is none": (["--device", ZERO, "--budget", "lots"], UsageError, "--budget: expected a size such as"),
    "times of a board that nobody knows": (
        ["--across", f"{ZERO},shed", "--budget", "shed=1GiB", "--objective", "throughput"],
        UsageError,
        "expected rates of shed for objective throughput",
    ),
    "a tail of nothing": (["--device", ZERO, "--tail", FOUR], UsageError, "expected --split BOARD beside --tail"),
    "a front twice": (["--split", ZERO, "--split", f"{ZERO}=3"], UsageError, f"found {ZERO} twice"),
    "a unit that is none": (["--split", f"{ZERO}=0"], UsageError, "BOARD=UNIT with a number, found"),
    "a front that is its own tail": (["--split", "server"], UsageError, "expected another board as --tail"),
    "a name that is no folder": (["--device", "../x", "--budget", "../x=1GiB"], UsageError, "expected a board's name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    """A command line that cannot be meant is one sentence that names the option."""
    words, error, expected = REFUSED[case]
    with pytest.raises(error, match=expected):
        asked(*words)
