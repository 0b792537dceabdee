"""Tables out of the graph: the same numbers as with tables in it, through what boards run, from a file beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from console.errors import BadData, IntegrityError
from edge.cli_run import main as run
from edge.data import Row
from edge.generate import generate
from edge.runner import Runner
from edge.steps import Steps
from export.cli import export, verify
from export.cli_inspect import inspect
from export.cost import cost
from export.formats.rewrite import weights_of
from export.prepare import Prepared, Wanted, prepare
from export.stage import Key, build_stage
from export.table_files import kept_tables, table_of
from export.tables_out import SMALLEST_BYTES, Source, take_out
from export.verify import pooled_features
from tests.export import decoders, models
from tests.export.graphs import Builder
from tests.export.runtime import hidden_of
from wire.adapter import Adapter
from wire.bundle import Bundle, open_bundle
from wire.kinds.head import Head
from wire.kinds.lora import Lora
from wire.manifest import Manifest
from wire.tables import Lookup, file_bytes

WORDS = 9001  # 1.1 MiB with 32 columns
TABLE = "embeddings.word_embeddings.weight"
ROWS = f"table.{TABLE}.rows"
TEXTS = ["the red cat sat on the mat.", "a blue dog ran", "under the tree", "cats", "the dog sat on a red mat ."]
CUTS = {"one segment": 1, "three segments": 3}


def sides(model: Prepared) -> tuple[Prepared, Prepared]:
    """The model with its tables in the graph, and with them out of it."""
    return model, replace(model, tables_out=True, table_files={}, _costs={})


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A tiny encoder of many words with slots and a head."""
    work = tmp_path_factory.mktemp("bert-words")
    folder = models.tiny_bert(work / "model", layers=2, vocabulary=WORDS)
    wanted = Wanted(str(folder), "feature-extraction", 2, 12, "all-linear", sizes={"sequence": 12})
    return prepare(wanted, ("fp32", "int8"), ("train",), work / "source")


def pair(model: Prepared, out: Path, quant: str, segments: int) -> list[Bundle]:
    """Bundles to train on, tables in and out."""
    made = []
    for side, name in zip(sides(model), ("in", "out"), strict=True):
        labels = ("cat", "dog")
        made.append(decoders.bundle(side, segments, out / name, quant, mode="train", batch=2, labels=labels))
    return made


@pytest.fixture(scope="module", params=[("int8", 1), ("int8", 3), ("fp32", 1)], ids=["int8", "int8-cut", "fp32"])
def bundles(request: pytest.FixtureRequest, bert: Prepared, tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Bundles of the encoder, tables in and out, in some formats and numbers of segments."""
    quant, segments = request.param
    return pair(bert, tmp_path_factory.mktemp(f"{quant}-{segments}"), quant, segments)


def adapter_for(manifest: Manifest) -> Adapter:
    """Factors that are not zero, and a head."""
    rng = np.random.default_rng(3)

    def drawn(*shape: int) -> np.ndarray:
        return (0.2 * rng.standard_normal(shape)).astype(np.float32)

    lora = {s.name: Lora(drawn(s.features_in, 2), drawn(2, s.features_out), 1.5) for s in manifest.slots_of("lora")}
    head = Head(drawn(32, 2), drawn(2))
    return Adapter(manifest.model.id, "0" * 64, lora, {}, heads={0: head})


def test_boards_compute_the_same(bundles: list[Bundle]) -> None:
    """Features, logits, loss and every gradient, bit by bit, with the agent's own runner."""
    found = []
    for bundle in bundles:
        runner, adapter = Runner(bundle), adapter_for(bundle.manifest)
        output = runner.forward(TEXTS, adapter)
        sums = runner.gradients([Row(text, at % 2) for at, text in enumerate(TEXTS)], adapter)
        bare = runner.forward(TEXTS)
        found.append({"f": output.features, "l": output.logits, "b": bare.features, **sums.by_input})
        learns = {n for s in bundle.manifest.slots for n in (s.a, s.b)}
        assert set(sums.by_input) == learns | {"head.weight", "head.bias"}
        runner.close()
    for name, value in found[0].items():
        assert np.abs(value).max() > 0
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


def test_the_table_is_a_file_and_no_weight(bundles: list[Bundle]) -> None:
    """The graphs' weights shrink by the table, whose bytes are in the file that the manifest describes."""
    inside, outside = (bundle.manifest for bundle in bundles)
    (table,) = outside.tables
    bits = {"int8": 8, "fp32": 32}[outside.plan.quant]
    assert (table.weight, table.rows, table.columns, table.bits) == (TABLE, WORDS, 32, bits)
    assert table.lookups == (Lookup(ROWS, "input_ids"),)
    size = [sum(f.bytes for f in m.files if f.path.endswith("weights.bin")) for m in (inside, outside)]
    payload = WORDS * 32 * bits // 8
    assert payload <= size[0] - size[1] <= payload + 4 * WORDS + 3 * 4096
    assert {f.path: f.bytes for f in outside.files}[table.file] == file_bytes(table)
    for graph in (graph for segment in outside.segments for graph in segment.graphs):
        assert "input_ids" not in {t.name for t in graph.inputs}
    assert [t.name for t in outside.inputs] == [t.name for t in inside.inputs]
    report = next(r for r in outside.quantization if r["name"] == TABLE)
    assert report["format"] == f"{table.format}, out"
    assert (report["bytes_before"], report["bytes_after"]) == (WORDS * 32 * 4, file_bytes(table))
    assert ("relative_error" in report) == (bits == 8)
    if bits == 8:  # noise is put on the rows, as it is behind a Gather
        assert outside.extra["verified"]["variant"]["noise"]["enters"] == [ROWS]


def test_the_planner_counts_rows_and_no_table(bert: Prepared) -> None:
    """Units weigh less by the table in every format, whatever else they need."""
    inside, outside = (side.cost(2, "train").units for side in sides(bert))
    for quant, size in (("fp32", WORDS * 32 * 4), ("int8", WORDS * (32 + 4))):
        weights = [sum(unit.weight_bytes[quant] for unit in units) for units in (inside, outside)]
        assert weights[0] - weights[1] == size


def test_a_chain_hands_on_ids_and_not_rows() -> None:
    """A cut before the first reader is crossed by the ids, as it is where the table is in the graph."""
    inside, outside = (looked_up(SMALLEST_BYTES // 128, late=True) for _ in range(2))
    take_out(outside)
    carried = [cost(model, 1, "serve", {"fp32": "fp32"}).units[0].carried_bytes_per_item for model in (inside, outside)]
    assert carried == [2 * 3 * 8] * 2


def test_four_bits_come_in_blocks_that_divide(bert: Prepared, tmp_path: Path) -> None:
    """Beside 4-bit weights a table has blocks of 32 and zero points, or 8 bits where its columns do not divide."""
    source = Source("w", ir.tensor(np.zeros((10, 48), np.float32)), (Lookup("rows", "ids"),))
    assert [table_of(source, quant).format for quant in ("int4", "fp16")] == ["int8 rows", "fp32 rows"]
    stage = build_stage(sides(bert)[1], Key("serve", "int8", 2, ()), tmp_path)
    (source,) = sides(bert)[1].taken(2).sources
    table = table_of(source, "nf4")
    assert (table.format, table.symmetric) == ("int4 blocks of 32", False)
    assert file_bytes(table) < file_bytes(stage.tables[0].record) * 0.7


def test_a_table_may_have_a_format_of_its_own(bert: Prepared, tmp_path: Path) -> None:
    """`--keep` with its name, which no layer in the graph has; the chain in float32 is still the original's."""
    out = sides(bert)[1]
    weights = [weight.name for weight in weights_of(out.frozen(2))]
    tables, inside = kept_tables(out.taken(2).sources, {"*word_*": "int4", "*.0.*": "fp16"}, weights)
    assert (tables, inside) == ({TABLE: "int4"}, {"*.0.*": "fp16"})
    both = kept_tables(out.taken(2).sources, {"*": "int8", "none*": "fp32"}, weights)
    assert both == ({TABLE: "int8"}, {"*": "int8", "none*": "fp32"})
    model = replace(out, kept_tables=tables)
    bundle = decoders.bundle(model, 1, tmp_path / "b", "fp32", mode="train", batch=2, labels=("cat", "dog"))
    (table,) = bundle.manifest.tables
    assert table.format == "int4 blocks of 32"
    assert {r["format"] for r in bundle.manifest.quantization} == {"fp32", "int4 blocks of 32, out"}
    assert 0.98 < bundle.manifest.extra["verified"]["feature_cosine"] < 1


def test_a_decoder_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens of a prompt by the command, and logits bit by bit; word and position tables are both out."""
    folder = decoders.tiny_gpt2(tmp_path / "gpt2", vocabulary=WORDS, tied=False)
    prepared = decoders.prepared(folder, "text-generation-with-past", tmp_path / "work")
    said, logits = [], []
    for side, name in zip(sides(prepared), ("in", "out"), strict=True):
        bundle = decoders.bundle(side, 2, tmp_path / name, "int8")
        assert [table.weight for table in bundle.manifest.tables] == ["transformer.wte.weight"] * (name == "out")
        line = [str(tmp_path / name), "--prompt", "the red cat", "--max-new-tokens", "6", "--json"]
        assert run(line) == 0
        said.append(json.loads(capsys.readouterr().out)["tokens"])
        steps = Steps([bundle])
        generate(steps, [5, 6, 7], 3)
        logits.append(steps.states)
        steps.close()
    assert said[0] == said[1]
    assert len(set(said[0])) > 1
    for name, value in logits[0].items():
        np.testing.assert_array_equal(logits[1][name], value)


@pytest.mark.heavy
def test_encoder_and_decoder_read_one_table(tmp_path: Path) -> None:
    """One file for both, each by its own ids and in its own segment; the answer is the same."""
    folder = decoders.tiny_t5(tmp_path / "t5", vocabulary=WORDS)
    prepared = decoders.prepared(folder, "text2text-generation", tmp_path / "work", sequence=8)
    source = {"input_ids": np.array([[5, 6, 8000, 2, 0, 0, 0, 0]]), "attention_mask": np.array([[1] * 4 + [0] * 4])}
    said = []
    for side, name in zip(sides(prepared), ("in", "out"), strict=True):
        bundle = decoders.bundle(side, 3, tmp_path / name, "int8")
        tokens = generate(Steps([bundle]), [], 6, source).tokens
        said.append(tokens)
    assert said[0] == said[1]
    assert len(set(said[0])) > 1
    (table,) = bundle.manifest.tables
    assert [lookup.ids for lookup in table.lookups] == ["input_ids", "decoder_input_ids"]
    readers = [s.name for lookup in table.lookups for s in bundle.manifest.segments if lookup.input in s.inputs]
    assert len(set(readers)) == 2


def test_a_tied_table_stays_and_is_said(tmp_path: Path) -> None:
    """What the output layer multiplies by as well stays in the graph, with the reason in the manifest."""
    folder = decoders.tiny_gpt2(tmp_path / "gpt2", vocabulary=WORDS)
    prepared = sides(decoders.prepared(folder, "text-generation-with-past", tmp_path / "work"))[1]
    manifest = decoders.bundle(prepared, 1, tmp_path / "b", "int8").manifest
    assert manifest.tables == ()
    reason = "it is tied: a product reads it as well"
    assert manifest.extra["tables_in"] == [{"weight": "transformer.wte.weight", "reason": reason}]


def looked_up(rows: int, *, made: bool = False, twice: bool = False, late: bool = False) -> ir.Model:
    """ids [2, 3] -> rows of a table [rows, 32]; ids may be made by the graph, read by two Gathers, or read late."""
    b = Builder(1)
    before = [b.input("x", [6, 32])] if late else []
    for name in ("turned", "bent") if late else ():
        before.append(b.op("Tanh", before[-1], shape=[6, 32], name=name))
    ids = ir.val("ids", ir.DataType.INT64, [2, 3])
    b.graph.inputs.append(ids)
    table = b.weight("w", rows, 32)
    one = ir.val("one", const_value=ir.tensor(np.ones((2, 3), np.int64), name="one"))
    shape = ir.val("shape", const_value=ir.tensor(np.array([6], np.int64), name="shape"))
    for value in (one, shape):
        b.graph.register_initializer(value)
    flat: list[int | str] = [6]
    read = b.op("Add", ids, one, shape=[2, 3], name="next") if made else ids
    whole = b.op("Reshape", read, shape, shape=flat, name="flat")
    for value in (read, whole):
        value.dtype = ir.DataType.INT64
    y = b.op("Gather", table, whole, shape=[6, 32], name="rows", axis=0)
    if twice:
        y = b.op("Add", y, b.op("Gather", table, whole, shape=[6, 32], name="again", axis=0), shape=[6, 32], name="sum")
    y = b.op("Add", y, before[-1], shape=[6, 32], name="both") if late else y
    return b.model(y=b.op("Neg", y, shape=[6, 32], name="neg"))


@pytest.mark.parametrize("twice", [True, False])
def test_a_gather_becomes_an_input(twice: bool) -> None:
    """Through a Reshape, and once for two readers of the same ids; what only ids needed is gone."""
    model = looked_up(SMALLEST_BYTES // 128, twice=twice)
    taken = take_out(model)
    assert (taken.ids, taken.stayed) == ({"table.w.rows": "ids"}, ())
    assert [(v.name, list(v.shape or [])) for v in model.graph.inputs] == [("table.w.rows", [6, 32])]
    assert [node.op_type for node in model.graph] == ["Add", "Neg"] if twice else ["Neg"]
    weights = taken.sources[0].tensor.numpy()
    ids = np.array([[5, 0, 7], [7, 1, 8191]])
    made = taken.exact().complete({"ids": ids}, {"table.w.rows": (6, 32)})
    np.testing.assert_array_equal(made["table.w.rows"], weights[ids.ravel()])


def test_what_cannot_leave_stays() -> None:
    """Ids that the graph makes itself, with the reason; a small table without one."""
    model = looked_up(SMALLEST_BYTES // 128, made=True)
    assert take_out(model).stayed == (("w", "its ids are made in the graph"),)
    assert [node.op_type for node in model.graph] == ["Add", "Reshape", "Gather", "Neg"]
    small = looked_up(SMALLEST_BYTES // 128 - 1)
    assert take_out(small) == take_out(looked_up(5))
    assert "w" in small.graph.initializers


def test_bad_ids_and_a_broken_file_end_in_sentences(bert: Prepared, tmp_path: Path) -> None:
    """Ids beyond the table at run time, and a table that was cut short before it is mapped."""
    bundle = decoders.bundle(sides(bert)[1], 1, tmp_path / "b", "int8", mode="train", batch=2)
    steps = Steps([bundle])
    ids = np.full((2, 12), WORDS, np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    with pytest.raises(BadData, match=rf"rows 0 to {WORDS - 1} of the table, found {WORDS} \({TABLE}\)"):
        steps.run(feeds)
    path = bundle.path(bundle.manifest.tables[0].file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="table0.8bit.bin has 326819 bytes instead of 326820"):
        open_bundle(bundle.folder, None)
    with pytest.raises(IntegrityError, match="expected a table of 326820 bytes in table0.8bit.bin, found 326819"):
        Runner(bundle)


def test_the_command_takes_tables_out_of_a_chain(
    bert: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two boards: the table is with the one that reads it, both verify, and the chain is the untouched model."""
    out = tmp_path / "out"
    line = [bert.captured.name, "--task", "feature-extraction"]
    folder = models.tiny_bert(tmp_path / "model", layers=2, vocabulary=WORDS)
    line = [str(folder), "--task", "feature-extraction", "--sequence", "9", "--quant", "fp32", "--tables", "out"]
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    line += ["--labels", str(tmp_path / "labels.txt"), "--mode", "serve", "--across", "raspberry-pi-4-2gb,server"]
    assert export([*line, "--objective", "throughput", "--out", str(out)]) == 0
    assert "1 in fp32 rows, out" in capsys.readouterr().out
    folders = [out / "01-raspberry-pi-4-2gb", out / "02-server"]
    for one in folders:
        assert verify([str(one), "--trust", str(out / "keys" / "publisher.pub"), "--no-memory"]) == 0
    chain = [open_bundle(one, None) for one in folders]
    assert [len(bundle.manifest.tables) for bundle in chain] == [1, 0]
    batch = chain[0].manifest.plan.micro_batch
    ids = np.random.default_rng(1).integers(0, WORDS, (batch, 9))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    features = Steps(chain).run(feeds)["features"]
    session = ort.InferenceSession(str(bert.captured.original))
    hidden = session.run([hidden_of(bert.captured)], {v.name: feeds[v.name] for v in session.get_inputs()})[0]
    np.testing.assert_allclose(features, pooled_features(hidden, feeds), atol=1e-5, rtol=1e-5)
    capsys.readouterr()
    assert inspect([str(folders[0])]) == 0
    assert "table0.32bit.bin" in capsys.readouterr().out
