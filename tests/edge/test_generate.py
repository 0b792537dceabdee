"""Greedy decoding over hand-made bundles whose next token is a sum, and chains with state over several bundles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from console.errors import BadData, UsageError
from edge.generate import generate
from edge.steps import Steps, ordered
from tests.edge import steppers
from tests.edge.steppers import CONTEXT, VOCABULARY
from wire.manifest import parse_manifest, to_bytes


def sums(tokens: list[int], count: int) -> list[int]:
    """What follows on paper: each token is the sum of all before it."""
    known = list(tokens)
    for _ in range(count):
        known.append(sum(known) % VOCABULARY)
    return known[len(tokens) :]


def test_the_states_hold_the_prompt(tmp_path: Path) -> None:
    """Prompt and answer go through the states, a second prompt starts from zeros again."""
    steps, told = Steps([steppers.cached(tmp_path / "b")]), list[int]()
    answer = generate(steps, [3, 4], 5, on_token=told.append)
    assert list(answer.tokens) == told == sums([3, 4], 5)
    assert answer.reason == "length"
    assert list(generate(steps, [1], 3).tokens) == sums([1], 3)


def test_an_end_token_ends_the_answer(tmp_path: Path) -> None:
    """The end token is the last of the answer, and the reason is told."""
    answer = generate(Steps([steppers.cached(tmp_path / "b", end=[6])]), [1, 2], 5)
    assert (answer.tokens, answer.reason) == ((3, 6), "end")


def test_the_context_ends_the_answer(tmp_path: Path) -> None:
    """Every token of the context is run, and one more comes out; a prompt of its length still has an answer."""
    steps = Steps([steppers.cached(tmp_path / "b")])
    answer = generate(steps, [1, 2], 50)
    assert answer.reason == "context"
    assert list(answer.tokens) == sums([1, 2], CONTEXT - 1)
    full = list(range(CONTEXT))
    assert list(generate(steps, full, 50).tokens) == sums(full, 1)
    with pytest.raises(UsageError, match="at most 8 tokens, found 9; shorten it, or export with a larger --context"):
        generate(steps, [1] * (CONTEXT + 1), 1)
    with pytest.raises(UsageError, match="at least one token, found none; give --prompt"):
        generate(steps, [], 1)


def test_tokens_that_may_not_be_chosen(tmp_path: Path) -> None:
    """A forced token comes at its index; of what is left, the first of equals is taken."""
    answer = generate(Steps([steppers.cached(tmp_path / "b", forced={"2": 9}, never=(3, 0))]), [1, 2], 2)
    assert list(answer.tokens) == [9, sums([1, 2, 9], 1)[0]]
    barred = generate(Steps([steppers.cached(tmp_path / "c", never=(0,), never_first=(3,))]), [1, 2], 1)
    assert list(barred.tokens) == [1]


@pytest.mark.parametrize("keep", [True, False, None])
def test_a_prefix_is_run_again_with_every_token(keep: bool | None, tmp_path: Path) -> None:
    """The answer begins with the start token, padding on the right changes nothing, sessions kept or not."""
    steps = Steps([steppers.prefix(tmp_path / "b")], keep=keep)
    source = {"source": np.array([[1, 2, 3, 4]])}
    answer = generate(steps, [], 4, source)
    expected = sums([10, 3], 4)
    assert list(answer.tokens) == expected
    assert generate(steps, [], 50, source).reason == "context"


def test_a_segment_that_is_fed_the_same_is_not_run_again(tmp_path: Path) -> None:
    """The encoder's file may go away after the first token: nobody opens it again, until the source changes."""
    steps = Steps([steppers.prefix(tmp_path / "b")], keep=False)
    source = {"source": np.array([[1, 2, 3, 4]])}

    def lose(token: int) -> None:
        (tmp_path / "b" / "segment0.forward.onnx").unlink(missing_ok=True)

    assert list(generate(steps, [], 4, source, lose).tokens) == sums([10, 3], 4)
    with pytest.raises(Exception, match="segment0.forward.onnx"):
        generate(steps, [], 1, {"source": np.array([[9, 9, 9, 9]])})


def test_a_chain_over_boards_goes_in_its_own_order(tmp_path: Path) -> None:
    """Stages given backwards run forwards, each with its own state; over three steps the sums are those on paper."""
    boards = ("first", "second")
    stages = [steppers.adder(tmp_path / name, at, boards) for at, name in enumerate(boards)]
    steps = Steps(stages[::-1])
    assert [tensor.name for tensor in steps.inputs] == ["x"]
    assert steps.outputs == ("y",)
    one, two = np.zeros(2), np.zeros(2)
    for x in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]):
        one += x
        two += one + 10
        found = steps.run({"x": np.array([x], np.float32)})
        np.testing.assert_array_equal(found["y"][0], two + 10)
    steps.reset()
    np.testing.assert_array_equal(steps.run({"x": np.ones((1, 2), np.float32)})["y"], [[21, 21]])


def test_stages_must_be_one_whole_chain(tmp_path: Path) -> None:
    """An absent stage, one twice, one of another chain and a whole model among them are refused in words."""
    boards = ("first", "second", "third")
    a, b, c = (steppers.adder(tmp_path / name, at, boards) for at, name in enumerate(boards))
    other = steppers.adder(tmp_path / "other", 1, boards, chain="c2")
    with pytest.raises(BadData, match=r"all 3 stages of chain c1, found none for 02 \(second\); name every stage once"):
        ordered([a, c])
    with pytest.raises(BadData, match="found one of them twice"):
        ordered([a, b, c, b])
    with pytest.raises(BadData, match="stages of c1, c2; take those of one export"):
        ordered([a, other, c])
    with pytest.raises(BadData, match="found the whole model whole among them; run it alone"):
        ordered([a, steppers.cached(tmp_path / "whole")])


def test_the_record_survives_writing(tmp_path: Path) -> None:
    """How a bundle generates is read back as it was written."""
    manifest = steppers.cached(tmp_path / "b", end=[2, 6], forced={"1": 4}).manifest
    assert manifest.generate is not None
    assert parse_manifest(to_bytes(manifest)) == manifest
    assert manifest.generate.forced == {"1": 4}


def test_only_generating_bundles_generate(tmp_path: Path) -> None:
    """Another bundle is refused with the way out."""
    with pytest.raises(UsageError, match="export with --task text-generation"):
        generate(Steps([steppers.adder(tmp_path / "a", 0, ("first",))]), [1], 1)
