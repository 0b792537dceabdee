"""Errors of formats at the outputs: against quantizing one weight and running the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import UnsupportedModel, UsageError
from devices.plan import Board
from export.activations.given import Calibration
from export.choice.assign import formats_of
from export.choice.sensitivity import measure
from export.formats.grid import Grid
from export.formats.registry import AUTO
from export.formats.rewrite import quantize_weights
from export.formats.stock import Stock
from export.prepare import Prepared, Wanted, prepare
from export.study.data import Items
from export.write import write_graphs
from tests.export.decoders import CONTEXT, tiny_gpt2
from tests.export.runtime import run

FORMATS = ("fp16", "int8", "int4")


@pytest.fixture(scope="module")
def encoder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A tiny BERT without slots, its outputs its own."""
    work = tmp_path_factory.mktemp("sensitivity")
    return prepare(Wanted(str(bert_folder), "feature-extraction", sequence=9, targets=""), (AUTO,), ("serve",), work)


@pytest.fixture(scope="module")
def errors(encoder: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Of its weights."""
    return measure(encoder, FORMATS, tmp_path_factory.mktemp("probe"))


def really(prepared: Prepared, formats: Mapping[str, str]) -> float:
    """The squared relative error of the outputs with some weights quantized, by running the model."""
    feeds = {**prepared.samples(1, None)[0], **prepared.states(1)}
    exact, rough = prepared.frozen(1).clone(), prepared.frozen(1).clone()
    quantize_weights(rough, formats)
    found, wanted = run(rough, feeds), run(exact, feeds)
    ratios = [np.sum((found[n] - wanted[n]) ** 2.0) / np.sum(wanted[n] ** 2.0) for n in prepared.judged]
    return float(np.mean(ratios))


@pytest.mark.parametrize("fmt", ["int8", "int4"])
def test_one_layer_alone(fmt: str, encoder: Prepared, errors: dict[str, dict[str, float]]) -> None:
    """What is predicted of a layer is what quantizing that layer does to the outputs, within a factor.

    Of two for the format whose noise was run, of five for another one.
    """
    names = [name for name, known in errors.items() if fmt in known][:8]
    for name in names:
        found, factor = really(encoder, {name: fmt}), 2 if fmt == "int4" else 5
        assert found / factor <= errors[name][fmt] <= found * factor, name


def test_all_layers_together(encoder: Prepared, errors: dict[str, dict[str, float]]) -> None:
    """The sum of the errors predicts that of all layers at once, within a factor of three."""
    for fmt in ("int8", "int4"):
        formats = {name: fmt for name, known in errors.items() if fmt in known}
        together = really(encoder, formats)
        assert together / 3 <= sum(errors[name][fmt] for name in formats) <= together * 3


def test_fewer_bits_cost_more(errors: dict[str, dict[str, float]]) -> None:
    """fp32 costs nothing, and every format more than the one with more bits."""
    assert errors
    for known in errors.values():
        ordered = [known[fmt] for fmt in ("fp32", *FORMATS) if fmt in known]
        assert ordered[0] == 0.0
        assert ordered == sorted(ordered)


def test_a_decoder_with_caches(tmp_path: Path) -> None:
    """States are carried from run to run; what a shared table costs is what it costs as table and as last product."""
    wanted = Wanted(str(tiny_gpt2(tmp_path / "gpt2")), "text-generation", targets="", sizes={"context": CONTEXT})
    decoder = prepare(wanted, (AUTO,), ("serve",), tmp_path / "work")
    found = measure(decoder, ("int8", "int4"), tmp_path)
    together = really(decoder, {"transformer.wte.weight": "int4"})
    # one token is little to go by, and the two noises are one
    assert together / 10 <= found["transformer.wte.weight"]["int4"] <= together * 10
    assert len(found) >= 12
    assert all(known["int8"] > 0 for known in found.values())
    assert not list(tmp_path.glob("probe*"))


def test_a_weight_that_is_no_number(encoder: Prepared, tmp_path: Path) -> None:
    """NaN is refused with the name of the weight."""
    name = next(name for name in encoder.frozen(1).graph.initializers if name.endswith("query.weight"))
    broken = Prepared(**{**vars(encoder), "_whole": {1: encoder.frozen(1).clone()}})
    weight = broken.frozen(1).graph.initializers[name]
    weight.const_value = ir.tensor(np.full((32, 32), np.nan, np.float32), name=name)
    with pytest.raises(UnsupportedModel, match=f"cannot store the weight {name} as .*: expected finite weights"):
        measure(broken, ("int8",), tmp_path)


def test_error_feedback_hears_the_layers(encoder: Prepared) -> None:
    """With --scales gptq every matrix is chosen by what it is fed, and loses less at the outputs than by rounding."""
    grid = Grid(scales="gptq")
    asking = Prepared(**{**vars(encoder), "stock": Stock(grid), "formats": ("int4",)})
    assert formats_of(asking, "int4") == "int4"
    inputs, rounded = asking.stock.inputs, measure(encoder, ("int4",), asking.work or Path())
    assert {rows.shape[1] for rows in inputs.values()} == {32, 64}
    found = measure(asking, ("int4",), asking.work or Path())
    better = [name for name in inputs if found[name]["int4"] < rounded[name]["int4"]]
    assert len(better) > 0.9 * len(inputs)


def test_calibration_items_are_what_is_listened_to(encoder: Prepared, tmp_path: Path) -> None:
    """Items that a user gives are fed instead of the model's own samples: other items, other errors."""
    rng = np.random.default_rng(1)
    found = []
    for high in (5, 90):
        ids = rng.integers(1, high, (12, 9))
        items = Items(
            arrays={"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        )
        asking = Prepared(**{**vars(encoder), "calibration": Calibration(items), "errors": None})
        found.append(measure(asking, ("int8",), tmp_path))
    table = "embeddings.word_embeddings.weight"
    assert found[0].keys() == found[1].keys()
    assert found[0][table]["int8"] != found[1][table]["int8"]


def test_what_is_kept(encoder: Prepared) -> None:
    """Patterns decide for the weights that they match, others have the format that was asked for; none is an error."""
    kept = Prepared(**{**vars(encoder), "keep": {"*query*": "fp32", "*layer.0*key*": "int8-blocks"}})
    found = formats_of(kept, "int8")
    assert isinstance(found, dict)
    assert {fmt for name, fmt in found.items() if "query" in name} == {"fp32"}
    assert next(fmt for name, fmt in found.items() if "layer.0" in name and "key" in name) == "int8-blocks"
    assert found["encoder.layer.1.attention.self.key.weight"] == "int8"
    with pytest.raises(UsageError, match="no-such.* matches none of"):
        formats_of(Prepared(**{**vars(encoder), "keep": {"no-such*": "int8"}}), "int8")


def test_nothing_to_quantize(tmp_path: Path) -> None:
    """A model without a weight that the format can take is refused, and fp32 is offered."""
    from tests.export.graphs import residual_mlp

    model = residual_mlp(slots=False)
    for value in list(model.graph.inputs)[2:]:  # the head is the model's own here
        model.graph.inputs.remove(value)
    write_graphs({"net": model}, tmp_path, "net.bin")
    prepared = prepare(Wanted(str(tmp_path / "net.onnx"), targets=""), ("int4",), ("serve",), tmp_path / "work")
    with pytest.raises(UnsupportedModel, match=r"stored as int4, found none .*fewer than 1024.*--quant fp32"):
        prepared.decide(Board("board", 1 << 40, "serve", "int4", 2))
