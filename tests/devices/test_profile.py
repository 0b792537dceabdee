"""The profiles that are shipped, and what becomes of a profile that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console.errors import BadData, UsageError
from console.toml import read_toml
from devices.profile import FOLDER, NoAgent, UnknownProfile, load, names, parse, require_agent

MIB = 1 << 20
REQUIRED = {
    "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus",
    *(f"raspberry-pi-4-{gb}gb" for gb in (1, 2, 4, 8)),
    *(f"raspberry-pi-5-{gb}gb" for gb in (1, 2, 4, 8, 16)),
    *(f"raspberry-pi-cm5-{gb}gb" for gb in (2, 4, 8, 16)),
    *(f"jetson-nano-{gb}gb" for gb in (2, 4)),
    *(f"jetson-orin-nano-{gb}gb" for gb in (4, 8)),
    *(f"jetson-orin-nx-{gb}gb" for gb in (8, 16)),
    *(f"jetson-agx-orin-{gb}gb" for gb in (32, 64)),
    *(f"jetson-thor-{module}" for module in ("t4000", "t5000")),
    "generic-aarch64",
    "generic-x86-mini",
    "server",
}
ZERO = "raspberry-pi-zero-2w"


def tables(name: str = ZERO) -> dict[str, Any]:
    """The decoded TOML of a shipped profile, for a test to spoil."""
    return read_toml(FOLDER / f"{name}.toml")


def test_every_board_has_a_profile() -> None:
    """The boards that the documentation names are there."""
    assert set(names()) >= REQUIRED


@pytest.mark.parametrize("name", names())
def test_a_shipped_profile_is_whole(name: str) -> None:
    """Each profile parses, and no field in it is misspelt: nothing is left over as unknown."""
    profile = load(name)

    assert profile.id == name
    assert profile.extra == profile.sources.extra == {}
    assert all(figure.extra == {} for figure in profile.figures().values())
    assert len(profile.figures()) >= 6


@pytest.mark.parametrize("name", names())
def test_a_number_that_is_a_guess_says_so(name: str) -> None:
    """What a source calls assumed or taken from another board is marked unverified."""
    for figure in load(name).figures().values():
        borrowed = any(word in figure.source for word in ("assumed", "taken from", "share of", " plus ", "between"))
        assert not borrowed or figure.source.startswith("unverified: ")


def test_what_the_smallest_board_has() -> None:
    """The Zero 2 W has 417 MiB in all and 292 MiB to spare, as measured on its 64-bit Lite system."""
    profile = load(ZERO)

    assert profile.memory_total_bytes.value == 417 * MIB
    assert profile.memory_available_bytes.value == 292 * MIB
    assert profile.memory_available_bytes.source.startswith("measured: ")
    assert "dotprod" not in profile.isa


def test_a_larger_board_of_a_family_has_more() -> None:
    """Within a family, available memory and budget grow with the size in the name."""
    for family in ("raspberry-pi-4-", "raspberry-pi-5-", "raspberry-pi-cm5-", "jetson-orin-nano-", "jetson-orin-nx-"):
        sizes = sorted(int(n.removeprefix(family)[:-2]) for n in names() if n.startswith(family))
        profiles = [load(f"{family}{size}gb") for size in sizes]
        available = [p.memory_available_bytes.value for p in profiles]
        budgets = [p.budget_bytes for p in profiles]
        assert len(sizes) > 1
        assert available == sorted(set(available))
        assert budgets == sorted(set(budgets))


def test_jetpack_6_stops_at_its_runtime() -> None:
    """JetPack 6 has Python 3.10, so its boards run onnxruntime 1.23.2 at most."""
    profile = load("jetson-orin-nano-8gb")

    assert (profile.python, profile.onnxruntime_max) == ("3.10", "1.23.2")


def test_a_board_without_an_agent_is_refused_with_its_reason() -> None:
    """A Jetson Nano is known and refused, and the message says why and what to do."""
    with pytest.raises(NoAgent, match=r"found jetson-nano-4gb: JetPack 4 has Python 3\.6 .*; choose another") as info:
        require_agent(load("jetson-nano-4gb"))

    assert info.value.exit_code == 12
    require_agent(load(ZERO))


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("rasberry-pi-zero-2w", r"did you mean raspberry-pi-zero-2w"),
        ("raspberry-pi-4", r"did you mean raspberry-pi-4-1gb or .*4-2gb or .*4-4gb or .*4-8gb\?"),
        ("../profiles/server", r"did you mean server\?|see edgequilt devices list"),
        ("toaster", r"see edgequilt devices list"),
    ],
    ids=["misspelt", "no size", "a path", "far off"],
)
def test_an_unknown_board_names_those_that_are_close(asked: str, hint: str) -> None:
    """An unknown name says what was found and which names are close."""
    with pytest.raises(UnknownProfile, match=hint) as info:
        load(asked)

    assert f"found '{asked}'" in str(info.value)
    assert info.value.exit_code == 2


def test_every_problem_is_reported_at_once() -> None:
    """A profile with five mistakes names all five."""
    spoilt = tables()
    del spoilt["soc"]
    spoilt["agent"] = "perhaps"
    spoilt["cores"] = 4
    spoilt["memory_total_bytes"] = {"value": 0, "source": "a friend"}

    with pytest.raises(BadData) as info:
        parse(spoilt, ZERO, "zero.toml")

    said = str(info.value)
    assert said.startswith("zero.toml is not what it should be: ")
    assert "soc: missing" in said
    assert "agent: expected one of yes, no, found 'perhaps'" in said
    assert "cores: expected a table, found int '4'" in said
    assert "memory_total_bytes.value: expected at least 1, found 0" in said
    assert "memory_total_bytes.source: expected text like" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "zero"}, "id: expected 'raspberry-pi-zero-2w' as in the file's name, found 'zero'"),
        ({"agent": "no"}, "agent_reason: expected a reason why no agent runs there, found none"),
        ({"onnxruntime_max": None}, "onnxruntime_max: expected a version, since an agent runs there, found none"),
        ({"providers": []}, "providers: expected at least one"),
        (
            {"memory_available_bytes": {"value": 1 << 40, "source": "unverified"}},
            f"memory_available_bytes: expected at most the total {417 * MIB}, found {1 << 40}",
        ),
        (
            {"memory_nominal_bytes": {"value": 5, "source": "unverified"}},
            f"memory_total_bytes: expected at most the nominal 5, found {417 * MIB}",
        ),
    ],
    ids=["another id", "no reason", "no runtime", "no provider", "more than all", "more than soldered"],
)
def test_a_contradiction_is_refused(change: dict[str, Any], said: str) -> None:
    """A profile that contradicts itself is refused, with both sides of the contradiction."""
    with pytest.raises(BadData) as info:
        parse({**tables(), **change}, ZERO, "zero.toml")

    assert str(info.value).startswith("zero.toml contradicts itself: ")
    assert said in str(info.value)


def test_a_folder_of_ones_own_adds_and_overrides(tmp_path: Path) -> None:
    """A user's folder adds boards, and a name that we have too is taken from it."""
    text = (FOLDER / f"{ZERO}.toml").read_text(encoding="utf-8")
    (tmp_path / "my-board.toml").write_text(text.replace(f'"{ZERO}"', '"my-board"'), encoding="utf-8")
    (tmp_path / f"{ZERO}.toml").write_text(text.replace("Zero 2 W", "Zero of mine"), encoding="utf-8")

    assert set(names(tmp_path)) == {*names(), "my-board"}
    assert load("my-board", tmp_path).id == "my-board"
    assert load(ZERO, tmp_path).title == "Raspberry Pi Zero of mine"
    assert load("server", tmp_path) == load("server")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder of one's own that does not exist is refused, not ignored."""
    with pytest.raises(UsageError, match=r"expected a folder with profiles, found none at .*attic"):
        load(ZERO, tmp_path / "attic")


def test_a_field_of_a_later_version_is_kept() -> None:
    """A field that this version does not know is kept, not refused."""
    profile = parse({**tables(), "watts": 3}, ZERO, "zero.toml")

    assert profile.extra == {"watts": 3}
