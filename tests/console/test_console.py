"""How the tool speaks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console import errors
from console.arguments import Arguments, above_zero, whole
from console.errors import BadData, EdgequiltError, StorageError, UsageError, join
from console.progress import progress
from console.report import Stack, bars, beside, checks, heading, lines, names, page, pictures, section, stacks, table
from console.toml import read_toml
from tests.sim.browser import Page

DOCS = Path(__file__).parents[2] / "docs"


def test_every_exit_code_is_documented_and_none_twice() -> None:
    """docs/exit-codes.md lists exactly the classes and codes of console/errors.py."""
    kinds = {
        c.__name__: c.exit_code for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EdgequiltError)
    }
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)
    assert {name: int(code) for code, name in rows} == kinds
    assert len(set(kinds.values())) == len(kinds)


def test_many_problems_are_counted_not_poured_out() -> None:
    """A message shows twenty problems and says how many more there are."""
    message = join([f"line {i}" for i in range(25)])
    assert message.endswith("line 19; and 5 more")


def test_a_wrong_command_line_is_our_error() -> None:
    """Argparse never exits from inside; its sentence and the usage come as a UsageError."""
    parser = Arguments(prog="edgequilt x")
    parser.add_argument("--n", type=int, required=True)
    with pytest.raises(UsageError, match=r"--n.*usage: edgequilt x"):
        parser.parse_args([])
    with pytest.raises(UsageError, match="invalid int value: 'a'"):
        parser.parse_args(["--n", "a"])


def test_a_long_usage_is_where_help_is() -> None:
    """A verb of many options says where they are listed, not all of them."""
    parser = Arguments(prog="edgequilt x")
    for number in range(40):
        parser.add_argument(f"--option-{number}")
    with pytest.raises(UsageError, match=r"unrecognized arguments: --m; see `edgequilt x --help`$"):
        parser.parse_args(["--m"])


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x", "²", "1" * 5000, "nan"])
def test_a_number_out_of_its_range_names_its_option(text: str) -> None:
    """What is no whole number within bounds, or not above zero, is refused with the option and the bounds."""
    parser = Arguments(prog="edgequilt x")
    parser.add_argument("--n", type=whole(1, 9))
    parser.add_argument("--s", type=above_zero)
    with pytest.raises(UsageError, match="argument --n: expected a whole number of 1 to 9, found"):
        parser.parse_args([f"--n={text}"])
    if text not in ("1.5", "1" * 5000):
        with pytest.raises(UsageError, match="argument --s: expected a number above 0, found"):
            parser.parse_args([f"--s={text}"])
    assert parser.parse_args(["--n=9", "--s=0.5"]).n == 9


def test_toml_that_is_none_is_named(tmp_path: Path) -> None:
    """An absent and a broken file each end in a sentence."""
    with pytest.raises(StorageError, match="expected a TOML file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(BadData, match="expected TOML in"):
        read_toml(tmp_path / "bad.toml")


def test_progress_without_a_terminal_is_lines_and_with_quiet_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs get one line when work starts; --json gets none."""
    with progress("exporting", 3) as bar:
        bar.advance()
    with progress("hidden", quiet=True) as bar:
        bar.say("still hidden")
        bar.advance()
    assert capsys.readouterr().err == "exporting ...\n"


def test_the_report_is_well_formed_and_escapes_what_it_is_given() -> None:
    """Labels from data cannot become markup, and every tag is closed."""
    evil = "<script>alert(1)</script>"
    parts = [
        table(["board", evil], [[evil, 1]], strong=[0]),
        bars([(evil, 3, 2), ("ok", 1, 0)], evil),
        lines([(evil, [0.1, 0.2])], [(evil, 0.2), ("same", 0.2)], ["1", evil]),
        checks([(evil, True), ("b", False)]),
        pictures([(evil, b"png")]),
        stacks([Stack(evil, {evil: 3, "b": 1}, 5), Stack("ok", {})], 4),
        names([(evil, evil), ("", "b")]),
        beside([(evil, heading(evil))]),
    ]
    whole = page(evil, evil, [section(evil, *parts)])
    found = Page(whole)
    assert (found.wrong, found.open) == ([], [])
    assert "script" not in found.seen
    assert "&lt;script&gt;" in whole


def test_stacks_share_a_scale_and_show_what_is_too_much() -> None:
    """Parts stand one after the other, all bars and the limit on one scale; a row beyond the limit is marked."""
    drawn = stacks([Stack("a", {"x": 30, "y": 20}, 40), Stack("b", {"x": 10}, 100)], 80)
    widths = [float(w) for w in re.findall(r'width="([\d.]+)%"', drawn)]
    starts = [float(x) for x in re.findall(r'<rect x="([\d.]+)%?"', drawn)]
    assert [round(w / widths[-1] * 100) for w in widths] == [30, 20, 40, 10, 100]
    assert starts[1] == pytest.approx(widths[0])
    assert max(widths) <= 100
    assert [float(x) for x in re.findall(r'x1="([\d.]+)%"', drawn)] == pytest.approx([widths[-1] * 0.8] * 2, abs=0.01)
    assert drawn.count("class=bad") == 1
    assert "budget" not in stacks([Stack("a", {"x": 1})], 0)


def test_only_columns_of_numbers_stand_to_the_right() -> None:
    """A column with one word in it is text."""
    made = table(["a", "b"], [["1 MiB", "x"], ["-", 2]])
    assert made.count("class=name") == 3
    assert "<td>1 MiB</td>" in made
