"""Cheap results that are made again: the same numbers to the bit, in no more memory, and in less where it matters."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir.passes.common import ShapeInferencePass

from export.gradient.again import make_again
from export.gradient.dims import dims_of, dtype_of
from export.gradient.sweep import differentiate
from export.liveness import live_bytes
from tests.export.gradient.harness import draw, parse, run, session

GATED = (
    "(T[16,64] x, T[64,96] g, T[64,96] u, T[96,64] d) => (T[16,64] y) "
    "{ a = MatMul(x, g) b = MatMul(x, u) s = Sigmoid(a) c = Mul(a, s) h = Mul(c, b) y = MatMul(h, d) }"
)
ALONE = (
    "(T[16,64] x, T[64,96] g, T[64,96] u) => (T[16,96] y) "
    "{ a = MatMul(x, g) b = MatMul(x, u) h = Add(a, b) y = Mul(h, h) }"
)


def both(text: str) -> tuple[ir.Model, ir.Model, int]:
    """A graph with its gradients as the sweep leaves it and with cheap results made again, and how many were."""
    models, made = [], 0
    for again in (False, True):
        model = parse(text, "float")
        ShapeInferencePass()(model)
        graph, forward = model.graph, len(model.graph)
        y = graph.outputs[0]
        seed = ir.val("grad.y", dtype_of(y), list(dims_of(y)))
        wanted = [value for value in graph.inputs if str(value.name)[0] in "xw"]  # weights are frozen
        graph.inputs.append(seed)
        graph.outputs.extend(differentiate(graph, {y: seed}, wanted).values())
        made = make_again(graph, forward) if again else 0
        models.append(model)
    return models[0], models[1], made


def compare(text: str) -> tuple[int, int, int]:
    """Both run to the same bits; the most that is alive in each, and how many results were made again."""
    plain, again, made = both(text)
    feeds = draw(plain)
    expected, found = (list(run(session(model, as_written=True), feeds).values()) for model in (plain, again))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    before, after = (max(live_bytes(model.graph)) for model in (plain, again))
    return before, after, made


def test_of_a_gated_unit_only_what_goes_in_is_kept() -> None:
    """The sigmoid and its product with the gate are made again before they are read, and are not kept in between."""
    _, again, made = both(GATED)
    assert made == 2
    nodes = list(again.graph)
    turn = next(at for at, node in enumerate(nodes) if "/grad/" in str(node.name))
    kept = {v.name for node in nodes[turn:] for v in node.inputs if v is not None and v.producer() in nodes[:turn]}
    assert kept == {"a", "b"}


def test_less_is_alive_in_a_stack_of_gated_units() -> None:
    """Of three units one on another, what is made again would have waited for the others."""
    body = "".join(
        f"a{k} = MatMul(x{k}, g) b{k} = MatMul(x{k}, u) s{k} = Sigmoid(a{k}) c{k} = Mul(a{k}, s{k}) "
        f"h{k} = Mul(c{k}, b{k}) x{k + 1} = MatMul(h{k}, d) "
        for k in range(3)
    )
    text = f"(T[16,64] x0, T[64,96] g, T[64,96] u, T[96,64] d) => (T[16,64] y) {{ {body} y = Mul(x3, x3) }}"
    before, after, made = compare(text)
    assert made == 6
    assert after < 0.85 * before


def test_nothing_is_made_again_from_what_would_have_to_be_kept_for_it() -> None:
    """A sum of two products is kept itself, since neither product is read again."""
    _, _, made = both(ALONE)
    assert made == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Add", "Mul", "Sub", "Sigmoid", "Tanh", "Relu", "Neg", "Exp"]), *[st.integers(0, 30)] * 2
        ),
        min_size=1,
        max_size=14,
    )
)
def test_any_net_of_small_operators_keeps_its_numbers(steps: list[tuple[str, int, int]]) -> None:
    """Whatever reads what, the file stays in an order that runs, to the same bits, in no more memory."""
    names, lines = ["x", "w"], []
    for at, (op_type, left, right) in enumerate(steps):
        given_ = [names[left % len(names)], names[right % len(names)]][: 2 if op_type in {"Add", "Mul", "Sub"} else 1]
        lines.append(f"v{at} = {op_type}({', '.join(given_)})")
        names.append(f"v{at}")
    text = f"(T[16,32] x, T[16,32] w) => (T[16,32] y) {{ {' '.join(lines)} k = Add({names[-1]}, x) y = Mul(k, w) }}"
    before, after, _ = compare(text)
    assert after <= before


@pytest.mark.parametrize("size", [4, 64])
def test_short_results_are_kept(size: int) -> None:
    """A node is not worth it for less than a kilobyte."""
    text = f"(T[{size},4] x) => (T[{size},4] y) {{ s = Sigmoid(x) y = Mul(x, s) }}"
    assert both(text)[2] == (size == 64)
