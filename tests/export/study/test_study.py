"""Models of other kinds in every format: classifiers of texts and arrays, encoders, nets without a matrix."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from console.errors import BadData, UnsupportedModel, UsageError, VerificationError
from export.prepare import Wanted
from export.study.calls import calls_of
from export.study.data import read_items
from export.study.rows import Share
from export.study.subject import subject
from tests.export.graphs import Builder
from tests.export.models import write_tokenizer
from tests.export.sources.test_tasks import LABELS, bert_sizes, labelled, save
from tests.export.study.studied import TEXTS, arrays, lines, net, row, studied


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A BERT with three classes, and its folder."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("classifier")
    model = save(BertForSequenceClassification, BertConfig(**labelled(**bert_sizes())), folder)
    write_tokenizer(folder, max_length=32)
    return folder, model


def test_accuracy_is_that_of_transformers(classifier: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    """Texts of unequal length, labels by name and by number; times have a column for every number of rows."""
    from transformers import AutoTokenizer

    folder, model = classifier
    texts = [*TEXTS, "the mat", "dogs on a tree", "cats"]
    encoded = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        likeliest = model(**encoded).logits.argmax(1).tolist()
    written = [LABELS[likeliest[0]], str(likeliest[1]), *[str((k + 1) % 3) for k in likeliest[2:4]], "fog", "calm"]
    table = [f"{text!r}\t{label}".replace("'", "") for text, label in zip(texts, written, strict=True)]
    data = lines(tmp_path, "text\tlabel", *table, name="data.tsv")
    found = studied(folder, data, tmp_path / "w", "int8", "text-classification", sequence=24)
    right = 2 + (likeliest[4] == LABELS.index("fog")) + (likeliest[5] == LABELS.index("calm"))
    accuracy, agreement = found.rows[0].quality.accuracy, found.rows[0].quality.agreement
    assert accuracy is not None
    assert agreement is not None
    assert (accuracy.hits, accuracy.of, agreement.hits, agreement.of) == (right, 6, 6, 6)
    assert list(found.rows[0].times) == [1, 16, 120]
    assert (found.kind, found.sequence, found.items) == ("classes", 24, 6)


def by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    """The original's outputs."""
    return np.asarray(ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])


def test_a_net_is_judged_by_labels_in_the_file(tmp_path: Path) -> None:
    """Its lone output [batch, classes] is taken for logits where there are labels; else for features."""
    path = net(tmp_path / "net.onnx")
    x = np.load(arrays(tmp_path / "plain.npz", 12))["x"]
    labels = by_onnxruntime(path, x).argmax(1)
    labels[:3] = (labels[:3] + 1) % 5
    found = studied(path, arrays(tmp_path / "data.npz", 12, labels=labels), tmp_path / "a", "int4")
    accuracy, agreement = found.rows[0].quality.accuracy, row(found, "int4").quality.agreement
    assert accuracy is not None
    assert agreement is not None
    assert (accuracy.hits, accuracy.of, agreement.of) == (9, 12, 12)
    plain = studied(path, tmp_path / "plain.npz", tmp_path / "b", "int4")
    assert plain.kind == "features"
    assert plain.rows[0].quality.cosine == pytest.approx(1.0)
    cosine = row(plain, "int4").quality.cosine
    assert cosine is not None
    assert 0.9 < cosine < 0.9999


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    """A graph of four items at a time takes six of them; the times are those of its own batch."""
    path = net(tmp_path / "net.onnx", batch=4)
    x = np.load(arrays(tmp_path / "x.npz", 8))["x"]
    labels = np.concatenate([by_onnxruntime(path, x[at : at + 4]) for at in (0, 4)]).argmax(1)
    np.savez(tmp_path / "data.npz", x=x[:6], labels=labels[:6])
    found = studied(path, tmp_path / "data.npz", tmp_path / "w", "int8")
    assert found.rows[0].quality.accuracy == Share(6, 6)
    assert list(found.rows[1].times) == [4]


def test_an_encoder_is_judged_by_its_marked_tokens(bert_folder: Path, tmp_path: Path) -> None:
    """Cosines with fp32, what fills up left out; labels are found by the nearest class mean of marked tokens."""
    from transformers import AutoModel, AutoTokenizer

    texts = [
        "the cat",
        "dogs sat under the red tree",
        "a cat",
        "dog",
        "the mat",
        "trees on the mat",
        "cats",
        "red dogs",
    ]
    labels = ["cat", "dog", "cat", "dog", "other", "cat", "cat", "dog"]
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    found = studied(
        bert_folder, lines(tmp_path, *rows, name="d.jsonl"), tmp_path / "w", "int8", "feature-extraction", sequence=16
    )
    quality = row(found, "int8").quality
    assert quality.cosine is not None
    assert quality.least_cosine is not None
    assert 0.99 < quality.least_cosine <= quality.cosine < 1.0

    tokenizer, model = AutoTokenizer.from_pretrained(bert_folder), AutoModel.from_pretrained(bert_folder).eval()
    with torch.no_grad():
        means = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    vectors = [mean / mean.norm() for mean in means]
    of_class = {
        name: torch.stack([v for v, label in zip(vectors[::2], labels[::2], strict=True) if label == name]).mean(0)
        for name in set(labels[::2])
    }
    asked = [(v, label) for v, label in zip(vectors[1::2], labels[1::2], strict=True) if label in of_class]
    right = [
        max(of_class, key=lambda k: float(torch.cosine_similarity(v, of_class[k], 0))) == label for v, label in asked
    ]
    assert found.rows[0].quality.accuracy == Share(sum(right), len(asked))
    assert found.remarks[0].startswith("accuracy is that of the nearest class mean")


def test_pictures_are_studied(vit_folder: Path, tmp_path: Path) -> None:
    """From files beside the rows; calls of one picture, since each has several rows in a product."""
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    data = lines(tmp_path, *[json.dumps({"image": f"{i}.png"}) for i in range(3)], name="d.jsonl")
    found = studied(vit_folder, data, tmp_path / "w", "int8", "feature-extraction")
    assert (found.items, found.sequence) == (3, None)
    assert 0.99 < (row(found, "int8").quality.least_cosine or 0.0) < 1.0


def test_labels_that_say_nothing_are_remarked(tmp_path: Path) -> None:
    """A model without logits, and classes of which none comes among those with a mean and those that are asked."""
    b = Builder(1)
    y = b.op("Tanh", b.input("x", ["batch", 3, 8]), shape=["batch", 3, 8], name="bent")
    onnx.save(ir.to_proto(b.model(y=y)), tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=np.ones((4, 3, 8), np.float32), labels=np.array(["a", "b", "c", "d"]))
    found = studied(tmp_path / "net.onnx", tmp_path / "d.npz", tmp_path / "w", "fp32")
    assert (found.kind, found.rows[0].quality.accuracy) == ("features", None)
    assert found.remarks == (
        "labels are not used: the model has no logits [items, classes], and too few classes come twice",
    )


def test_activations_are_rounded_and_formats_calibrated(tmp_path: Path) -> None:
    """onnxruntime's own formats and error feedback run beside the others, and the study says what they looked at."""
    path, data = net(tmp_path / "net.onnx", inputs=64), arrays(tmp_path / "d.npz", 24)
    formats = "int4,int4+gptq,int8,int8-dynamic,int8-static,int8-static+percentile"
    found = studied(path, data, tmp_path / "w", formats)
    assert not [one.reason for one in found.rows if one.reason]
    cosines = {one.format: one.quality.cosine or 0.0 for one in found.rows}
    assert cosines["int4"] < cosines["int4+gptq"] < cosines["int8-dynamic"] < cosines["int8"]
    assert 0.99 < cosines["int8-static"] < cosines["int8"]
    assert row(found, "int8-static").weights["int8-static"] >= 1
    assert found.remarks == (
        "int4+gptq, int8-static, int8-static+percentile: calibrated on 24 items that are judged, which flatters them",
    )


def without_matrix(path: Path, weight: float = 1.0) -> Path:
    """y = x w with a vector."""
    vector = numpy_helper.from_array(np.full(64, weight, np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [vector])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_a_format_that_no_weight_takes_says_so(tmp_path: Path) -> None:
    """It is no silent copy of fp32 or of another format: no graphs, no figures, a reason."""
    found = studied(without_matrix(tmp_path / "a.onnx"), arrays(tmp_path / "d.npz", 2), tmp_path / "a", "int8,nf4")
    assert [one.reason for one in found.rows] == ["", *["no weight can take it: the model has no matrix"] * 2]
    assert not any(one.times or one.stored_bytes for one in found.rows[1:])
    # 64 columns are no whole number of blocks of 128: this would be int8 under another name
    other = studied(net(tmp_path / "b.onnx"), arrays(tmp_path / "e.npz", 2, inputs=64), tmp_path / "b", "int4+128")
    assert "no weight can take it: " in row(other, "int4+128").reason
    assert "no multiple of the block of 128" in row(other, "int4+128").reason


def test_weights_may_keep_a_format(tmp_path: Path) -> None:
    """What is kept has its own format in every other one, those of activations too, and fp32 stays fp32."""
    path, data = net(tmp_path / "net.onnx", classes=32), arrays(tmp_path / "d.npz", 4)
    found = studied(path, data, tmp_path / "a", "int4,int8-dynamic", keep={"last*": "int8"})
    assert dict(row(found, "int4").weights) == {"int4": 1, "int8": 1}
    assert dict(row(found, "int8-dynamic").weights) == {"int8": 1, "int8-dynamic": 1}
    assert dict(found.rows[0].weights) == {"fp32": 2}
    plain = studied(path, data, tmp_path / "b", "int4")
    assert (row(found, "int4").quality.cosine or 0.0) > (row(plain, "int4").quality.cosine or 1.0)
    with pytest.raises(UsageError, match="middle matches none of 2 layers"):
        studied(path, data, tmp_path / "c", "int4", keep={"middle": "int8"})


def infinite(path: Path, weight: float) -> Path:
    """A net with one weight replaced."""
    model = onnx.load(net(path))
    array = numpy_helper.to_array(model.graph.initializer[0]).copy()
    array[0, 0] = weight
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, model.graph.initializer[0].name))
    onnx.save(model, path)
    return path


def test_weights_and_outputs_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    """NaN in a matrix is named, whatever the formats; of a vector the output shows it."""
    data = arrays(tmp_path / "d.npz", 2)
    with pytest.raises(UnsupportedModel, match="weights that are numbers, found NaN or infinity in first.weight"):
        studied(infinite(tmp_path / "net.onnx", np.nan), data, tmp_path / "w", "int8")
    with pytest.raises(VerificationError, match="the model in fp32 to compute numbers, found NaN or infinity in y"):
        studied(without_matrix(tmp_path / "a.onnx", np.inf), data, tmp_path / "v", "fp32")


def test_a_weight_beyond_a_format_is_its_row_alone(tmp_path: Path) -> None:
    """A number that 16 bits cannot hold costs fp16 its row, and no other."""
    found = studied(infinite(tmp_path / "net.onnx", 1e6), arrays(tmp_path / "d.npz", 2), tmp_path / "w", "fp16,int8")
    assert row(found, "fp16").reason.startswith("it cannot be made: cannot store the weight first.weight as fp16")
    assert row(found, "int8").reason == ""
    assert row(found, "int8").times


def test_data_of_another_model_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    """Texts for a net, arrays of another shape or name, a sequence where there is none, labels of another number."""
    path, good = net(tmp_path / "net.onnx"), arrays(tmp_path / "good.npz", 2, labels=np.array([0, 1]))
    with pytest.raises(UsageError, match="an array per input for net, which reads no text, found texts"):
        studied(path, lines(tmp_path, "a"), tmp_path / "a", "fp32")
    with pytest.raises(BadData, match=r"found x of the shape \[2, 63\], where it is \['rows', 64\]"):
        studied(path, arrays(tmp_path / "b.npz", 2, inputs=63), tmp_path / "b", "fp32")
    np.savez(tmp_path / "c.npz", z=np.zeros((2, 64), np.float32))
    with pytest.raises(BadData, match="found 'z', where the model reads x"):
        studied(path, tmp_path / "c.npz", tmp_path / "c", "fp32")
    with pytest.raises(UsageError, match="expected no --sequence for net, which reads no text"):
        studied(path, good, tmp_path / "d", "fp32", sequence=8)
    with pytest.raises(UsageError, match="expected 5 labels for 5 logits of this model, found 2 in --labels"):
        studied(path, good, tmp_path / "e", "fp32", labels=("a", "b"))
    with pytest.raises(BadData, match=r"numbers of 0 to 4 in .*late.npz, found item 1: '5'"):
        studied(path, arrays(tmp_path / "late.npz", 2, labels=np.array([4, 5])), tmp_path / "f", "fp32")
    with pytest.raises(UsageError, match="--sequence of 1 to 48 tokens for this model, found 49"):
        studied(bert_folder, lines(tmp_path, "a"), tmp_path / "g", "fp32", "feature-extraction", sequence=49)


def test_steps_are_no_items(tmp_path: Path) -> None:
    """A model that runs one item at a time, and whose inputs have their steps first, cannot take items."""
    b = Builder(1)
    y = b.op("Tanh", b.input("x", ["steps", "batch", 8]), shape=["steps", "batch", 8], name="bent")
    onnx.save(ir.to_proto(b.model(y=y)), tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=np.ones((5, 1, 8), np.float32))
    wanted = Wanted(str(tmp_path / "net.onnx"), targets="", sizes={"steps": 5, "batch": 1})
    found = subject(wanted, None, tmp_path / "w")
    one = replace(found, captured=replace(found.captured, batches=(1,)))
    with pytest.raises(UnsupportedModel, match=r"their items first, found x \[5, 1, 8\] in net, which runs 1 at"):
        calls_of(one, read_items(tmp_path / "d.npz"), None, one.frozen(1))
