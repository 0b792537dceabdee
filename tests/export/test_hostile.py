"""Broken and hostile ONNX files: every one ends in a sentence, before anything of it is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from console.errors import BadData, EdgequiltError, StorageError, UnsupportedModel
from export.capture import capture
from tests.export.faults import (
    Change,
    attribute,
    calls_itself,
    dims,
    doubles,
    input_type,
    makes,
    moved,
    nested,
    node,
    opset,
    reads,
)
from tests.export.sources.files import INNER, WIDE, perceptron, write

ABOVE = "../" * 12 + "etc/passwd"


def refused(path: Path, error: type[EdgequiltError], words: str) -> None:
    """The door refuses a file with a sentence on one line, and makes nothing."""
    work = path.parent / "work"
    with pytest.raises(error, match=words) as caught:
        capture(str(path), "onnx", work)
    assert "\n" not in str(caught.value)
    assert not work.exists()


EXTERNAL: dict[str, tuple[Change, str]] = {
    "climbs out": (moved("location", ABOVE), r"outside the model's folder"),
    "absolute": (moved("location", "/etc/passwd"), "outside the model's folder"),
    "a drive": (moved("location", "C:\\secret"), "which is no file name"),
    "a zero byte": (moved("location", "weights.bin\0x"), "which is no file name"),
    "no name": (moved("location", ""), "which is no file name"),
    "not there": (moved("location", "nowhere.bin"), r"'nowhere.bin', which cannot be read \(No such file"),
    "a folder": (moved("location", "folder"), "'folder', which is no file"),
    "a link out": (moved("location", "link"), "'link', a link out of the folder"),
    "links in a circle": (moved("location", "circle"), "'circle', which cannot be read"),
    "a pipe": (moved("location", "pipe"), "'pipe', which is no file"),
    "too far": (moved("offset", "4096"), r"at byte 4096 of 'weights.bin', which has \d+ bytes and not 6016"),
    "absurdly far": (moved("offset", "9" * 19), "at byte 9{19} of 'weights.bin'"),
    "before the file": (moved("offset", "-8"), "external data is at offset '-8'"),
    "no number": (moved("offset", "٣"), "external data is at offset"),
    "a length of its own": (moved("length", "12"), "with 12 bytes, where its shape 24 x 20 takes 1920"),
    "an entry of another kind": (
        lambda m: m.graph.initializer[0].external_data.add(key="", value="x"),
        "external data has the unknown entry ''",
    ),
    "two places": (
        lambda m: m.graph.initializer[0].external_data.append(m.graph.initializer[0].external_data[0]),
        "no location, or two",
    ),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_external_data_is_in_the_folder_and_whole(case: str, tmp_path: Path) -> None:
    """A location that climbs out, is a link, or does not hold the tensor is refused before it is opened."""
    change, words = EXTERNAL[case]
    path = write(perceptron(), tmp_path / "model.onnx", external=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    refused(path, BadData, words)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    """Only what leads out is refused."""
    path = write(perceptron(), tmp_path / "model.onnx", external=True)
    (tmp_path / "weights.bin").rename(tmp_path / "real.bin")
    (tmp_path / "weights.bin").symlink_to("real.bin")
    assert capture(str(path), "onnx", tmp_path / "work").modules


def hands_on(model: onnx.ModelProto) -> None:
    """A branch that returns a value of the graph around it."""
    nested(1)(model)
    branch = next(a.g for a in model.graph.node[-1].attribute if a.name == "else_branch")
    branch.output[0].name = "active"


BROKEN: dict[str, tuple[Change, str]] = {
    "a shape of other bytes": (
        dims(WIDE, INNER + 1),
        "'up.weight' with 1920 bytes, where its shape 24 x 21 takes 2016",
    ),
    "a negative size": (dims(-WIDE, -INNER), "'up.weight' of the impossible shape -24 x -20"),
    "sizes that overflow": (dims(1 << 62, 1 << 62), "'up.weight' of the impossible shape"),
    "sizes whose product wraps to the right one": (dims((1 << 63) - 1, 2, 480), "of the impossible shape"),
    "no type": (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "'up.weight' of the unknown type 0"),
    "a type of the future": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "of the unknown type 99"),
    "data twice": (lambda m: m.graph.initializer[0].int32_data.extend([1]), "whose data is there more than once"),
    "data in the wrong field": (
        lambda m: (m.graph.initializer[1].ClearField("raw_data"), m.graph.initializer[1].int64_data.extend([1] * 20)),
        "'up.bias' of the type float with int64_data",
    ),
    "a circle": (reads("y", 0), "nodes that wait for each other: '/up/Gemm' and '/Relu' and '/down/MatMul'"),
    "a node that reads itself": (reads("active"), "nodes that wait for each other: '/Relu'"),
    "a value that nobody makes": (reads("ghost"), "the node '/Relu' reads 'ghost', which nothing makes"),
    "an output that nobody makes": (
        lambda m: setattr(m.graph.output[0], "name", "ghost"),
        "the output 'ghost', which nothing makes",
    ),
    "a value made twice": (makes("up"), "two values called 'up'"),
    "a weight made again": (makes("up.bias"), "two values called 'up.bias'"),
    "two weights of one name": (
        lambda m: setattr(m.graph.initializer[0], "name", "up.bias"),
        "two tensors called 'up.bias'",
    ),
    "two inputs of one name": (lambda m: m.graph.input.append(m.graph.input[0]), "two inputs called 'x'"),
    "no opset": (lambda m: m.ClearField("opset_import"), "no opset import"),
    "a domain that is not imported": (node(domain="elsewhere"), "'elsewhere.Relu' without an opset import"),
    "too many inputs": (lambda m: m.graph.node[1].input.append("x"), "'/Relu' with 2 inputs, where 1 are due"),
    "too few inputs": (lambda m: m.graph.node[2].ClearField("input"), "'/down/MatMul' with 0 inputs, where 2 are due"),
    "an empty input": (reads(""), "'/Relu' without its input X"),
    "an unknown attribute": (attribute(gamma=1.0), "'/up/Gemm' with the unknown attribute 'gamma'"),
    "an attribute of another type": (attribute(alpha=[1, 2]), "'/up/Gemm' with an attribute 'alpha' that is not float"),
    "an attribute twice": (
        lambda m: (attribute(alpha=1.0)(m), attribute(alpha=2.0)(m)),
        "'/up/Gemm' with one attribute twice",
    ),
    "a branch that hands on": (
        hands_on,
        "'active' in the graph 'leaf', which is a value of the graph around it",
    ),
    "a function that calls itself": (calls_itself, "the function 'Ping', which calls itself"),
    "an input of an absurd size": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 1 << 50),
        "the input 'x' of the impossible size",
    ),
    "an input of a negative size": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", -24),
        "the input 'x' of the impossible size -24",
    ),
}
UNSUPPORTED: dict[str, tuple[Change, str]] = {
    "an unknown operator": (node(op_type="Relux"), r"the unknown operator 'Relux' \(opset 18\)"),
    "an operator of a later opset": (node(op_type="Swish"), r"the unknown operator 'Swish' \(opset 18\)"),
    "an operator that is gone": (node(op_type="Upsample"), "the unknown operator 'Upsample'"),
    "an unknown operator of the runtime": (
        lambda m: (
            m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
            node(op_type="NoSuch", domain="com.microsoft")(m),
        ),
        "the unknown operator 'com.microsoft.NoSuch'",
    ),
    "an unknown domain": (
        lambda m: (m.opset_import.append(helper.make_opsetid("elsewhere", 1)), node(domain="elsewhere")(m)),
        r"the unknown operator 'elsewhere.Relu' \(opset 1\)",
    ),
    "an opset of the future": (opset(99), "opset 99, where 7 to 25 are supported"),
    "a format of the future": (lambda m: setattr(m, "ir_version", 99), "IR version 99, where 3 to"),
    "no version of the format": (lambda m: m.ClearField("ir_version"), "IR version 0, where 3 to"),
    "an opset of the past": (opset(6), "opset 6, where 7 to 25 are supported"),
    "a negative opset": (opset(-3), "opset -3, where"),
    "graphs in graphs": (nested(20), "more than 12 graphs inside each other"),
    "functions that explode": (doubles, "functions that are 1099511627778 nodes when written out"),
    "text": (input_type("string"), "the input 'x' of the type string"),
    "a list": (input_type("sequence"), "the input 'x' of the type sequence, which is no tensor"),
    "perhaps nothing": (input_type("optional"), "the input 'x' of the type optional, which is no tensor"),
    "a sparse input": (input_type("sparse"), "the input 'x' of the type sparse tensor, which is no tensor"),
    "no shape": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
        "the input 'x' without a shape",
    ),
    "a weight of text": (
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "s")),
        "the tensor 's' of the type string",
    ),
    "a sparse weight": (lambda m: m.graph.sparse_initializer.add(), "sparse tensors"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_contradicts_itself_is_refused(case: str, tmp_path: Path) -> None:
    """Shapes, names, order and operators are checked before any of it is believed."""
    change, words = BROKEN[case]
    model = perceptron()
    change(model)
    refused(write(model, tmp_path / "model.onnx"), BadData, words)


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(case: str, tmp_path: Path) -> None:
    """A whole file that asks for more than there is."""
    change, words = UNSUPPORTED[case]
    model = perceptron()
    change(model)
    refused(write(model, tmp_path / "model.onnx"), UnsupportedModel, words)


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """Three faults, one sentence."""
    model = perceptron()
    dims(WIDE, 7)(model)
    reads("ghost")(model)
    opset(99)(model)
    refused(write(model, tmp_path / "model.onnx"), BadData, r"24 x 7.*'ghost'.*opset 99")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected an ONNX file of 1 byte to 2 GiB at .*, found 0 bytes"),
        (b"PK\3\4 this is a zip", "expected an ONNX model in .*, found"),
        (b"\x0a", "a number is cut off"),
        (b"\xff" * 40, "found bytes that are none"),
        (b"\x08\x08", "found no graph in it"),
        (b"\x3a\xff\xff\xff\xff\x0f", "ends 4294967295 bytes behind its message"),
    ],
)
def test_bytes_that_are_no_model(content: bytes, words: str, tmp_path: Path) -> None:
    """Empty, of another format, cut off."""
    (tmp_path / "model.onnx").write_bytes(content)
    refused(tmp_path / "model.onnx", BadData, words)


def test_names_are_utf_8(tmp_path: Path) -> None:
    """protobuf hands out other names as bytes, wherever they are."""
    whole = perceptron().SerializeToString()
    for name in (b"/up/Gemm", b"up.weight", b"Relu"):
        (tmp_path / "model.onnx").write_bytes(whole.replace(name, b"\xc7" + name[1:], 1))
        refused(tmp_path / "model.onnx", BadData, "that is no UTF-8: '/?\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    """Wherever it is cut off."""
    whole = perceptron().SerializeToString()
    (tmp_path / "model.onnx").write_bytes(whole[: int(len(whole) * share)])
    refused(tmp_path / "model.onnx", BadData, "expected an ONNX model in .*, found bytes that are none")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A path that leads nowhere, or to a folder."""
    refused(tmp_path / "nowhere.onnx", StorageError, r"found none that can be read \(No such file")
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / "folder.onnx", StorageError, r"found none that can be read \(Is a directory")
