"""A real probe, small; the profile it saves; and a bundle's times beside what the table says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import safetensors.numpy

import edgequilt
from console.errors import TransportError, UsageError
from devices.fleet import Settings, station
from devices.latency import Latency
from devices.profile import load
from devices.times import Speed
from edge.probe.compared import compare, together
from edge.probe.latency import measure
from edge.probe.network import link
from edge.probe.nodes import FOLDER, nodes
from edge.runtime import Session
from tests.edge.bundles import OPTIONS, make_bundle
from wire import manifest as mf
from wire.bundle import Bundle, open_bundle
from wire.work import Work

ADD = Work("Add", "fp32", (1000,))
SMALL = [node for node in nodes() if np.prod(node.shape) <= 1 << 17]


@pytest.fixture(scope="module")
def table() -> Latency:
    """A table of the small sizes of every graph, in the least of time."""
    return measure(0.1, (1,), "measured: by a test", chosen=SMALL)


def test_every_graph_is_measured(table: Latency) -> None:
    """Each file has a curve of its operator and format, and all that were asked for are points of it."""
    named = {tuple(path.name.split(".")[:2]) for path in FOLDER.glob("*.onnx") if not path.name.startswith("run.")}

    assert {(curve.operator, curve.format) for curve in table.curves if curve.format} == named
    assert sum(len(curve.ns) for curve in table.curves) == len(SMALL)
    assert all(min(curve.ns) >= 1 for curve in table.curves)


def test_a_measured_table_is_monotone(table: Latency) -> None:
    """Whatever noise there was, more rows and more weights never take less."""
    for curve in table.curves:
        sizes = [Work(curve.operator, curve.format, shape).size for shape in curve.shapes]
        for (rows, weights), ns in zip(sizes, curve.ns, strict=True):
            larger = [n for (r, w), n in zip(sizes, curve.ns, strict=True) if r >= rows and w >= weights]
            assert ns == min(larger)


def test_sizes_cover_more_than_one_scale() -> None:
    """All nodes have their largest size at least 60 times their smallest."""
    for kind in {(node.operator, node.format) for node in nodes()}:
        sizes = [int(np.prod(n.shape)) for n in nodes() if (n.operator, n.format) == kind]
        assert max(sizes) >= 60 * min(sizes), kind


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `devices probe` prints."""
    assert edgequilt.main(["devices", "probe", *arguments]) == 0
    return capsys.readouterr().out


def test_a_probe_is_a_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, table: Latency
) -> None:
    """--save writes what --profiles reads: every number measured, planned with, shown; a second one predicts by it."""
    monkeypatch.setattr("edge.probe.latency.measure", lambda *_, **__: table)
    path = tmp_path / "mine.toml"
    folder = ("--folder", str(tmp_path))
    said = run(capsys, "--quick", "--save", str(path), *folder)
    profile = load("mine", tmp_path)

    assert f"saved: {path}" in said
    assert "hub          not measured" in said
    assert profile.latency == table
    sources = {name: figure.source for name, figure in profile.figures().items()}
    assert {name for name, source in sources.items() if not source.startswith("measured: devices probe, 20")} <= {
        "memory_nominal_bytes",
        "clock_hz",
    }
    assert {"storage_write_bytes_per_s", "copy_bytes_per_s"} <= sources.keys()
    assert station("a", Settings("serve", "int8", (), tmp_path), profile="mine").speed.latency == table
    assert edgequilt.main(["devices", "show", "mine", "--profiles", str(tmp_path)]) == 0
    assert "latency table" in capsys.readouterr().out
    found = json.loads(run(capsys, "--quick", "--json", "--table", str(path), *folder))
    assert found["latency"] is None
    assert found["ram"]["total_bytes"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--save", "No Name.toml"), "expected --save NAME.toml with a name of lower-case"),
        (("--save", "nowhere/mine.toml"), "expected --save in a folder that is there"),
        (("--threads", "0"), "expected --threads from 1 to"),
        (("--seconds", "-1"), "expected --seconds from 1 to 3600, found -1"),
        (("--table", "{profile}"), "expected a profile with a latency table in"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """What cannot be done is refused before anything is measured."""
    profile = tmp_path / "raspberry-pi-4-2gb.toml"
    profile.write_bytes(Path(edgequilt.__file__).parent.joinpath("devices/profiles", profile.name).read_bytes())

    assert edgequilt.main(["devices", "probe", *(word.format(profile=profile) for word in arguments)]) == 2
    assert said in capsys.readouterr().err


def bundle_with_work(folder: Path, work: tuple[Work, ...] = (ADD,)) -> Bundle:
    """A hand-made bundle that trains, with golden values, whose graphs say that this is what they do."""
    make_bundle(folder)
    opened = open_bundle(folder, None)
    pixels = np.zeros((2, 1, 4, 4), np.float32)
    golden = {"feed/pixel_values": pixels, "fetch/logits": np.zeros((2, 3), np.float32)}
    (folder / opened.manifest.golden.file).write_bytes(safetensors.numpy.save(golden))
    segments = tuple(
        replace(segment, graphs=tuple(replace(graph, work=work) for graph in segment.graphs))
        for segment in opened.manifest.segments
    )
    return replace(opened, manifest=replace(opened.manifest, segments=segments))


def test_predicted_beside_measured(tmp_path: Path, table: Latency) -> None:
    """Inference runs every segment forward; a training step forward but the last, then all backward; sums add up."""
    rows = compare(bundle_with_work(tmp_path), Speed(1, 1, 1, "given", table))
    files = [row.file for row in rows]
    node = table.work_ns(ADD)
    assert node is not None

    assert [row.step for row in rows] == ["inference", "inference", "training", "training", "training"]
    assert files[0] == files[2]
    assert len(set(files)) == 4
    for row in rows:
        assert row.predicted_ns == pytest.approx(table.idle_ns()[0] + node, abs=2)
        assert row.ratio == (row.predicted_ns or 0) / row.measured_ns
    training = together(rows, "training")
    assert training is not None
    assert training.measured_ns == sum(row.measured_ns for row in rows[2:])
    assert together(rows, "nothing") is None


def test_a_bundle_that_does_not_say_its_work(tmp_path: Path, table: Latency) -> None:
    """Of an older bundle the time is measured, and nothing is predicted."""
    rows = compare(bundle_with_work(tmp_path, ()), Speed(1, 1, 1, "given", table))

    assert {row.predicted_ns for row in rows} == {None}
    assert {row.ratio for row in rows} == {None}
    whole = together(rows, "inference")
    assert whole is not None
    assert whole.predicted_ns is None


def test_one_node_in_a_session_of_an_agent(tmp_path: Path) -> None:
    """The graphs are ones that an agent's own session runs, with its options: 2 and 3 are 5."""
    taken = tuple(mf.Tensor(name, "float32", (4,)) for name in ("x", "w"))
    graph = mf.Graph(
        "forward", "b1", "Add.fp32.onnx", taken, (mf.Tensor("y", "float32", (4,)),), OPTIONS, mf.Measured(0)
    )
    session = Session(FOLDER / graph.file, graph)
    made = session.run({"x": np.full(4, 2, np.float32), "w": np.full(4, 3, np.float32)})

    assert made["y"].tolist() == [5, 5, 5, 5]


class Served:
    """A hub with one small file and one of 100 blocks."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.sent = fails, 0

    def bytes(self, path: str, limit_bytes: int) -> bytes:
        if self.fails:
            raise TransportError("expected a hub, found none")
        assert path == "/ca.pem"
        return b"x"

    def range(self, path: str, file: BinaryIO, offset: int, size: int) -> int:
        for _ in range(100):
            file.write(bytes(1000))
            self.sent += 1000
        return file.tell()


def test_the_hub_sends_no_more_than_asked(tmp_path: Path) -> None:
    """A download ends with the block that reaches the limit; without a bundle or a hub, why is said."""
    manifest = bundle_with_work(tmp_path).manifest
    hub = Served()
    found = link(hub, manifest, limit_bytes=4500)

    assert (hub.sent, found.tried_bytes) == (4000, 5000)
    assert (found.bytes_per_s or 0) > 0
    assert "no bundle yet" in link(Served(), None).why
    assert link(Served(fails=True), manifest).why == "expected a hub, found none"


def test_names_of_profiles() -> None:
    """A file that is no profile's name is refused."""
    from edge.probe.profile import check_name

    check_name(Path("x/my-pi.toml"))
    with pytest.raises(UsageError, match="found MyPi.toml"):
        check_name(Path("MyPi.toml"))
