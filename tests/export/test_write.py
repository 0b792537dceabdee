"""Bundles on disk: shared weights, all or nothing, and nothing loaded that is not what was signed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from console.errors import IntegrityError, SignatureError, StorageError
from export.chain import Graph
from export.gradient.backward import LossSpec, build_backward
from export.write import describe_files, read_golden, replacing, seal_bundle, write_golden, write_graphs, write_synced
from tests.export.graphs import feeds, residual_mlp
from wire.bundle import open_bundle
from wire.envelope import Trust
from wire.keys import PrivateKey, new_key
from wire.manifest import Golden, Manifest, Model, Plan, Preprocess

WIDE = 24  # 24 x 24 floats are 2304 bytes, above the limit below which tensors stay inside the graph
WIDER = 129  # 66564 bytes, above the limit from which they begin where a page begins


@pytest.mark.parametrize(("width", "border"), [(WIDE, 64), (WIDER, 4096)], ids=["small", "large"])
def test_weights_lie_at_borders_once(width: int, border: int, tmp_path: Path) -> None:
    """Forward and backward share one file; each weight is in it once: large ones at pages, others at 64 bytes."""
    forward, values = residual_mlp(width=width), feeds(width=width)
    wanted = ["slot.layer.0.A", "slot.layer.0.B"]
    backward = build_backward(forward, wanted=wanted, loss=LossSpec())
    write_graphs({"s.forward": forward, "s.backward": backward}, tmp_path, "s.weights.bin")
    places: dict[str, set[str]] = {}
    for kind in ("forward", "backward"):
        proto = onnx.load(tmp_path / f"s.{kind}.onnx", load_external_data=False)
        for tensor in proto.graph.initializer:
            where = {entry.key: entry.value for entry in tensor.external_data}
            if where:
                assert where["location"] == "s.weights.bin"
                assert int(where["offset"]) % border == 0
                places.setdefault(tensor.name, set()).add(where["offset"])
    assert len(places) == 3
    assert all(len(offsets) == 1 for offsets in places.values())
    size = width * width * 4
    gaps = -size % border
    assert (tmp_path / "s.weights.bin").stat().st_size == 3 * size + 2 * gaps
    got = Graph(tmp_path / "s.backward.onnx")(values)
    assert got["grad.slot.layer.0.A"].shape == (width, 2)


def test_equal_weights_are_stored_once(tmp_path: Path) -> None:
    """Two weights with the same bytes share one place."""
    model = residual_mlp(width=WIDE)
    first = model.graph.initializers["layer.0.weight"]
    for i in (1, 2):
        model.graph.initializers[f"layer.{i}.weight"].const_value = first.const_value
    write_graphs({"s.forward": model}, tmp_path, "s.weights.bin")
    assert (tmp_path / "s.weights.bin").stat().st_size == WIDE * WIDE * 4


def test_small_and_inner_tensors_come_along(tmp_path: Path) -> None:
    """A weight that was small in somebody's file, and one inside an If, are in the bundle: the source may go."""
    x, flag = ir.val("x", ir.DataType.FLOAT, [2, 8]), ir.val("flag", ir.DataType.BOOL, [])
    source = tmp_path / "source"
    source.mkdir()
    branches = {}
    for name, count in (("then_branch", 8), ("else_branch", 8 * 64)):  # one is below the limit, one above it
        weight = np.arange(count, dtype=np.float32).reshape(-1, 8)
        (source / f"{name}.bin").write_bytes(weight.tobytes())
        outside = ir.ExternalTensor(
            f"{name}.bin", 0, weight.nbytes, ir.DataType.FLOAT, shape=ir.Shape(weight.shape), name=name, base_dir=source
        )
        held, made = ir.val(name, const_value=outside), ir.val(f"{name}.y", ir.DataType.FLOAT, [2, 8])
        total = ir.node("ReduceSum", [held, axes := ir.val(f"{name}.axes", const_value=ir.tensor([0]))])
        added = ir.node("Add", [x, total.outputs[0]], outputs=[made])
        branches[name] = ir.Graph([], [made], nodes=[total, added], initializers=[held, axes], name=name)
    choice = ir.node("If", [flag], branches, outputs=[ir.val("y", ir.DataType.FLOAT, [2, 8])])
    graph = ir.Graph([x, flag], choice.outputs, nodes=[choice], opset_imports={"": 21}, name="made")
    write_graphs({"s.forward": ir.Model(graph, ir_version=10)}, tmp_path, "s.weights.bin")
    for file in source.iterdir():
        file.unlink()
    given = np.ones((2, 8), np.float32)
    run = Graph(tmp_path / "s.forward.onnx")
    for branch, flag_value in (("then_branch", True), ("else_branch", False)):
        count = 1 if branch == "then_branch" else 64
        wanted = given + np.arange(count * 8, dtype=np.float32).reshape(-1, 8).sum(axis=0)
        np.testing.assert_allclose(run({"x": given, "flag": np.array(flag_value)})["y"], wanted, rtol=1e-6)


def test_golden_round_trip(tmp_path: Path) -> None:
    """What is fed and what is fetched come back, scalars and empty adapters included."""
    given = {
        "x": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "scale": np.float32(2).reshape(()),
        "a": np.zeros((3, 0), np.float32),
    }
    write_golden(tmp_path / "golden.safetensors", given, {"features": given["x"] * 2})
    fed, fetched = read_golden(tmp_path / "golden.safetensors")
    assert {name: value.shape for name, value in fed.items()} == {"x": (2, 3), "scale": (), "a": (3, 0)}
    assert fetched["features"].tolist() == [[0, 2, 4], [6, 8, 10]]


@pytest.fixture
def key() -> PrivateKey:
    """A publisher."""
    return new_key("publisher", "tester")


def bundle(target: Path, key: PrivateKey, content: bytes = b"golden values") -> None:
    """The smallest bundle: one file and a manifest that lists it."""
    with replacing(target) as folder:
        write_synced(folder / "golden.safetensors", content)
        manifest = Manifest(
            schema=1,
            edgequilt="0",
            model=Model("model-1", "model", "text-classification", "0" * 64),
            plan=Plan("board", "train", "int8", 2, 8, (), 1, 1),
            files=describe_files(folder, ["golden.safetensors"]),
            inputs=(),
            buckets=(),
            segments=(),
            slots=(),
            head=None,
            labels=("a",),
            preprocess=Preprocess("text"),
            golden=Golden("golden.safetensors", "b8", 1e-5),
        )
        seal_bundle(folder, manifest, key)


def test_bundle_round_trip(tmp_path: Path, key: PrivateKey) -> None:
    """A bundle opens with the key that signed it, and with no other."""
    bundle(tmp_path / "board", key)
    opened = open_bundle(tmp_path / "board", Trust([key.public]))
    assert opened.manifest.files[0].bytes == len(b"golden values")
    with pytest.raises(SignatureError, match="trusted publisher key"):
        open_bundle(tmp_path / "board", Trust([new_key("publisher", "other").public]))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("golden.safetensors", IntegrityError, "golden.safetensors has another SHA-256"),
        ("manifest.json", SignatureError, "found other bytes"),
    ],
)
def test_a_flipped_byte_is_refused(
    tmp_path: Path, key: PrivateKey, name: str, error: type[Exception], words: str
) -> None:
    """One changed bit anywhere, and nothing is loaded."""
    bundle(tmp_path / "board", key)
    data = bytearray((tmp_path / "board" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "board" / name).write_bytes(data)
    with pytest.raises(error, match=words):
        open_bundle(tmp_path / "board", Trust([key.public]))


def interrupted(target: Path) -> None:
    """A bundle whose writing is stopped half-way."""
    with replacing(target) as folder:
        write_synced(folder / "half", b"half")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    """A block that fails leaves no target and no temporary folder."""
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "board")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_bundle(tmp_path: Path, key: PrivateKey) -> None:
    """What was complete before stays complete, and is replaced only by something complete."""
    bundle(tmp_path / "board", key)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "board")
    assert open_bundle(tmp_path / "board", Trust([key.public])).manifest.files[0].bytes == 13
    bundle(tmp_path / "board", key, b"other")
    assert open_bundle(tmp_path / "board", Trust([key.public])).manifest.files[0].bytes == 5
    assert [path.name for path in tmp_path.iterdir()] == ["board"]


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    """A target that is a file is refused in words and stays as it is."""
    (tmp_path / "board").write_text("mine")
    with pytest.raises(StorageError, match="expected a folder or nothing"), replacing(tmp_path / "board"):
        pass
    assert (tmp_path / "board").read_text() == "mine"
