from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from transformers import AlbertConfig, AlbertModel, AutoModel

from console.errors import UnsupportedModel
from export.capture import capture
from export.fold import freeze
from export.linears import linears
from export.slots import SlotSite, insert_slots
from export.sources.captured import Captured
from tests.export.models import write_tokenizer
from tests.export.runtime import copy_of, hidden_of, pictures, run, session, text, worst

TOLERANCE = 1e-5
Array = npt.NDArray[np.float32]
QUERY_VALUE = [f"encoder.layer.{i}.attention.self.{name}" for i in (2, 3) for name in ("query", "value")]


def fed(sites: list[SlotSite], rank: int | None = None, seed: int = 7) -> dict[str, Array]:
    """A, B and scale for every slot; ranks 0, 1, 2, ... in turn when none is given."""
    drawn = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for number, site in enumerate(sites):
        r = number if rank is None else rank
        feeds[site.a] = drawn.standard_normal((site.features_in, r)).astype(np.float32)
        feeds[site.b] = drawn.standard_normal((r, site.features_out)).astype(np.float32) * np.float32(0.3)
        feeds[site.scale] = np.array(drawn.uniform(0.2, 2.0), np.float32)
    return feeds


def torch_with_slots(folder: Path, sites: list[SlotSite], adapters: dict[str, Array], feeds: dict[str, Array]) -> Array:
    """The original in float64, each module with x W + b + scale x A B added by a hook on the module."""
    model = AutoModel.from_pretrained(folder).eval().double()
    modules = dict(model.named_modules())

    def hook(site: SlotSite) -> None:
        product = torch.from_numpy(adapters[site.a]).double() @ torch.from_numpy(adapters[site.b]).double()
        scale = float(adapters[site.scale])
        modules[site.module].register_forward_hook(lambda _m, xs, y: y + scale * (xs[0] @ product))

    for site in sites:
        hook(site)
    tensors = {n: torch.from_numpy(a) for n, a in feeds.items()}
    with torch.no_grad():
        given = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
        return np.asarray(model(**given).last_hidden_state.numpy(), np.float32)


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
def test_nothing_fed_is_the_base_model(which: str, request: pytest.FixtureRequest) -> None:
    """A graph with slots and no adapter computes what the untouched original computes."""
    captured = copy_of(request.getfixturevalue(which))
    insert_slots(captured.model, "all-linear")
    feeds = pictures(2) if captured.modality == "image" else text(2, 9)
    wanted = run(captured.original, feeds)[hidden_of(captured)]
    for model in (captured.model, freeze(captured.model, 2, 9)):
        assert worst(run(model, feeds)[hidden_of(captured)], wanted) <= TOLERANCE


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
def test_fed_slots_are_low_rank_changes_of_their_modules(which: str, request: pytest.FixtureRequest) -> None:
    """Random A, B and scale of a different rank in every slot give what torch computes with the products added."""
    captured = copy_of(request.getfixturevalue(which))
    sites = insert_slots(captured.model, "all-linear")
    feeds = pictures(2) if captured.modality == "image" else text(2, 9)
    if "token_type_ids" in feeds and which == "captured_distilbert":
        del feeds["token_type_ids"]
    adapters = fed(sites)
    folder = request.getfixturevalue(which.replace("captured_", "") + "_folder")
    wanted = torch_with_slots(folder, sites, adapters, feeds)
    assert worst(wanted, run(captured.original, feeds)[hidden_of(captured)]) > 0.1
    frozen = freeze(captured.model, 2, 9)
    for level in ("disable", "all"):
        assert worst(run(frozen, {**feeds, **adapters}, level)[hidden_of(captured)], wanted) <= TOLERANCE


def test_the_scale_is_an_input_that_counts(captured_bert: Captured) -> None:
    """A scale of 0 is the base model, although its default of 1 looks like a factor to be folded away."""
    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, "auto")
    adapters, feeds = fed(sites, rank=3), text(2, 9)
    off = {site.scale: np.array(0, np.float32) for site in sites}
    frozen = freeze(captured.model, 2, 9)
    base = run(frozen, feeds)[hidden_of(captured)]
    assert worst(run(frozen, {**feeds, **adapters})[hidden_of(captured)], base) > 0.1
    assert worst(run(frozen, {**feeds, **adapters, **off})[hidden_of(captured)], base) == 0.0


def test_peft_computes_the_same(captured_bert: Captured, bert_folder: Path) -> None:
    """PEFT's own LoRA layers over the same modules, with A and B turned, give the same hidden states."""
    from peft import LoraConfig, get_peft_model

    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, r"attention\.self\.(query|value)$")
    adapters, feeds = fed(sites, rank=4), text(2, 9)
    for site in sites:
        adapters[site.scale] = np.array(16 / 4, np.float32)
    model = get_peft_model(
        AutoModel.from_pretrained(bert_folder), LoraConfig(r=4, lora_alpha=16, target_modules=["query", "value"])
    ).eval()
    modules = dict(model.base_model.model.named_modules())
    with torch.no_grad():
        for site in sites:
            modules[site.module].lora_A["default"].weight.copy_(torch.from_numpy(adapters[site.a].T.copy()))
            modules[site.module].lora_B["default"].weight.copy_(torch.from_numpy(adapters[site.b].T.copy()))
        wanted = model(**{n: torch.from_numpy(a) for n, a in feeds.items()}).last_hidden_state.numpy()
    found = run(captured.model, {**feeds, **adapters})[hidden_of(captured)]
    assert worst(found, np.asarray(wanted)) <= TOLERANCE


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("auto", QUERY_VALUE),
        (r"layer\.0\..*key", ["encoder.layer.0.attention.self.key"]),
        (r"layer\.[03]\.intermediate", ["encoder.layer.0.intermediate.dense", "encoder.layer.3.intermediate.dense"]),
    ],
)
def test_targets_choose_modules(targets: str, expected: list[str], captured_bert: Captured) -> None:
    """`auto` is query and value of the upper half; an expression is searched in module paths."""
    assert [site.module for site in insert_slots(captured_bert.model.clone(), targets)] == expected


def test_all_linear_is_every_linear_layer_of_the_blocks(captured_bert: Captured, bert_folder: Path) -> None:
    """Six linear layers in each of the four blocks, as torch lists them, and none outside."""
    original = AutoModel.from_pretrained(bert_folder).encoder.named_modules()
    expected = {f"encoder.{name}" for name, module in original if isinstance(module, torch.nn.Linear)}
    sites = insert_slots(captured_bert.model.clone(), "all-linear")
    assert {site.module for site in sites} == expected
    assert len(sites) == 24


@pytest.mark.parametrize(("which", "last"), [("captured_distilbert", "v_lin"), ("captured_vit", "query")])
def test_auto_knows_other_families(which: str, last: str, request: pytest.FixtureRequest) -> None:
    """Query and value projections are found under the names that DistilBERT and ViT give them."""
    sites = insert_slots(request.getfixturevalue(which).model.clone(), "auto")
    assert len(sites) == 2
    assert all(".1." in site.module for site in sites)
    assert sites[-1].module.endswith(last)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("nothing_is_called_so", "match the targets 'nothing_is_called_so', found none; there are encoder.layer.0"),
        ("(", r"expected auto, every-block, all-linear or a regular expression as targets, found '\('"),
    ],
)
def test_targets_that_choose_nothing_are_refused(targets: str, words: str, captured_bert: Captured) -> None:
    """The message shows modules that exist, and how many more there are."""
    with pytest.raises(UnsupportedModel, match=words) as caught:
        insert_slots(captured_bert.model.clone(), targets)
    assert targets == "(" or re.search(r"query, .* and 18 more$", str(caught.value))


def test_inputs_have_their_defaults_and_symbols(captured_bert: Captured) -> None:
    """A [in, r_i] and B [r_i, out] default to rank 0, the scale to 1; each slot has its own symbol; all can be fed."""
    captured = copy_of(captured_bert)
    sites = insert_slots(captured.model, "auto")
    frozen = freeze(captured.model, 1, 5)
    inputs = {value.name: value for value in frozen.graph.inputs}
    for number, site in enumerate(sites):
        a, b, scale = (inputs[name] for name in (site.a, site.b, site.scale))
        assert [str(d) for d in a.shape or []] == [str(site.features_in), f"r_{number}"]
        assert [str(d) for d in b.shape or []] == [f"r_{number}", str(site.features_out)]
        defaults = [value.const_value.numpy() for value in (a, b, scale) if value.const_value is not None]
        assert [d.shape for d in defaults] == [(site.features_in, 0), (0, site.features_out), ()]
        assert float(defaults[2]) == 1.0
    overridable = {value.name for value in session(frozen).get_overridable_initializers()}
    assert overridable == {name for site in sites for name in (site.a, site.b, site.scale)}


def test_a_module_that_runs_twice_has_one_slot(tmp_path: Path) -> None:
    """ALBERT runs one block three times: one slot per module, used three times, as torch does it."""
    config = AlbertConfig(
        vocab_size=96, embedding_size=12, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=32,
    )  # fmt: skip
    folder = tmp_path / "albert"
    AlbertModel(config).save_pretrained(folder)
    write_tokenizer(folder, max_length=32)
    captured = capture(str(folder), "feature-extraction", tmp_path / "work")
    sites = insert_slots(captured.model, "all-linear")
    assert len({site.name for site in sites}) == len(sites) == 6
    feeds, adapters = text(2, 9), fed(sites, rank=2)
    wanted = torch_with_slots(folder, sites, adapters, feeds)
    assert worst(run(freeze(captured.model, 2, 9), {**feeds, **adapters})["last_hidden_state"], wanted) <= TOLERANCE


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 3.0)])
def test_a_gemm_has_a_slot_too(trans_a: int, trans_b: int, alpha: float, beta: float) -> None:
    """y = alpha op(x) op(W) + beta c + scale op(x) A B, for every form of Gemm, before and after freezing."""
    drawn = np.random.default_rng(9)
    x, w = drawn.standard_normal((4, 5)).astype(np.float32), drawn.standard_normal((5, 3)).astype(np.float32)
    c = drawn.standard_normal(3).astype(np.float32)
    rows = x.T.copy() if trans_a else x
    model = gemm(w.T.copy() if trans_b else w, c, rows.shape, transA=trans_a, transB=trans_b, alpha=alpha, beta=beta)
    assert [(linear.features_in, linear.features_out) for linear in linears(model)] == [(5, 3)]
    (site,) = insert_slots(model, "layer")
    adapters = fed([site], rank=2)
    wanted = alpha * x @ w + beta * c + adapters[site.scale] * (x @ adapters[site.a] @ adapters[site.b])
    feeds = {"x": rows, **adapters}
    assert worst(run(model, feeds)["y"], wanted) <= TOLERANCE
    frozen = freeze(model, rows.shape[0], None)
    assert worst(run(frozen, feeds)["y"], wanted) <= TOLERANCE
    assert "Gemm" not in {node.op_type for node in frozen.graph}


def gemm(w: Array, c: Array, shape: tuple[int, ...], **attributes: float) -> ir.Model:
    """One Gemm over a constant weight, named as torch's exporter names it."""
    x, y = ir.val("x", ir.DataType.FLOAT, list(shape)), ir.val("y", ir.DataType.FLOAT, [4, 3])
    constants = [ir.val(n, const_value=ir.tensor(a, name=n)) for n, a in (("w", w), ("c", c))]
    node = ir.node("Gemm", [x, *constants], attributes, outputs=[y], name="/layer/Gemm")
    graph = ir.Graph([x], [y], nodes=[node], initializers=constants, opset_imports={"": 18}, name="gemm")
    return ir.Model(graph, ir_version=8)


def test_what_no_gradient_reaches_has_no_slot() -> None:
    """A layer before a threshold gets none where a gradient must come back; where none is left, that is said."""
    text = """<ir_version: 9, opset_import: ["": 18]>
    spiking (float[N,4] x, float[4,5] a, float[5,3] b) => (float[N,3] y) {
        h = MatMul (x, a)
        zero = Constant <value_float = 0.0> ()
        over = Greater (h, zero)
        spikes = Cast <to = 1> (over)
        y = MatMul (spikes, b)
    }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    for shape in ((4, 5), (5, 3)):
        value = model.graph.inputs.pop(1)
        value.name = f"layer_{value.name}.weight"
        value.const_value = ir.tensor(np.ones(shape, np.float32), name=value.name)
        model.graph.register_initializer(value)
    assert [site.name for site in insert_slots(model.clone(), ".")] == ["layer_a", "layer_b"]
    assert [site.name for site in insert_slots(model.clone(), ".", toward="y")] == ["layer_b"]
    with pytest.raises(UnsupportedModel, match="a gradient of y comes back, found none among layer_a: .*train-forward"):
        insert_slots(model, "a$", toward="y")
