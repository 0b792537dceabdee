"""The whole way on a tiny encoder: one export for three boards, then what a user can do with the bundles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from console.errors import BadData, DoesNotFit, IntegrityError, SignatureError, UsageError, VerificationError
from export.chain import Chain, links_of
from export.cli import export, verify
from export.cli_inspect import inspect
from export.golden import check_golden
from export.write import read_golden, write_golden
from tests.sim.browser import Page
from wire.bundle import Bundle, open_bundle
from wire.envelope import Trust
from wire.files import digest
from wire.keys import new_key, read_public_key, write_key
from wire.manifest import parse_manifest, to_bytes

TRAINER, SECOND = "raspberry-pi-zero-2w", "raspberry-pi-4-2gb"
LABELS = ("cat", "dog", "tree")


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """A command line for the tiny BERT."""
    labels = out.parent / "labels.txt"
    labels.write_text("\n".join(LABELS))
    fixed = ["--task", "text-classification", "--labels", str(labels), "--sequence", "9", "--out", str(out)]
    return [str(folder), *fixed, *more]


@pytest.fixture(scope="module")
def exported(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles of two boards that share a plan, made by the command with a key of its own."""
    out = tmp_path_factory.mktemp("export") / "out"
    assert export(command(bert_folder, out, "--device", TRAINER, "--device", SECOND, "--json")) == 0
    return out


def opened(out: Path, name: str) -> Bundle:
    """A bundle whose signature is checked."""
    return open_bundle(out / name, Trust([read_public_key(out / "keys" / "publisher.pub", "publisher")]))


def test_only_bundles_and_keys_are_left(exported: Path) -> None:
    """A folder per board and the keys; nothing temporary."""
    assert sorted(path.name for path in exported.iterdir()) == sorted([TRAINER, SECOND, "keys"])


def test_the_manifest_says_what_is_there(exported: Path) -> None:
    """Plan, slots, head, labels, files and figures are those of this export, and survive reading and writing."""
    m = opened(exported, TRAINER).manifest
    assert parse_manifest(to_bytes(m)) == m
    assert (m.plan.device, m.plan.mode, m.plan.quant, m.plan.rank, m.plan.micro_batch) == (
        TRAINER,
        "train",
        "auto",
        2,
        8,
    )
    assert m.labels == LABELS
    assert [tensor.name for tensor in m.inputs] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [list(tensor.shape) for tensor in m.inputs] == [[8, 9]] * 3
    assert m.head is not None
    assert (m.head.features, m.head.segment) == (32, "segment0")
    assert [s.features_in for s in m.slots] == [32] * 4
    on_disk = {path.name for path in (exported / TRAINER).iterdir()} - {"manifest.json", "manifest.sig"}
    assert {file.path for file in m.files} == on_disk
    assert 0.98 < m.extra["verified"]["feature_cosine"] < 1
    for graph in m.segments[0].graphs:
        assert graph.memory.measured_bytes is not None
        assert abs(graph.memory.predicted_bytes - graph.memory.measured_bytes) < 8 << 20


def test_one_model_for_all_boards(exported: Path) -> None:
    """Boards differ in their plan, not in the model's id, slots, head or labels."""
    first, second = (opened(exported, name).manifest for name in (TRAINER, SECOND))
    assert (first.model, first.slots, first.head, first.labels) == (
        second.model,
        second.slots,
        second.head,
        second.labels,
    )
    assert (first.plan.rank, second.plan.rank) == (2, 8)
    assert {f.sha256 for f in first.files} == {f.sha256 for f in second.files}


def places(path: Path) -> set[tuple[int | None, int | None]]:
    """Where in the weight file the tensors of a graph are."""
    tensors = (value.const_value for value in ir.load(path).graph.initializers.values())
    return {(t.offset, t.length) for t in tensors if isinstance(t, ir.ExternalTensor)}


def test_a_graph_without_slots_lies_beside(exported: Path) -> None:
    """It takes no slot, gives what the chain gives with none fed, and all its weights are those of the other graph."""
    bundle = opened(exported, TRAINER)
    graphs = {graph.kind: graph for graph in bundle.manifest.segments[0].graphs}
    assert tuple(graphs) == ("forward", "backward", "serve")
    taken = {kind: [t.name for t in graph.inputs] for kind, graph in graphs.items()}
    assert taken["serve"] == [name for name in taken["forward"] if not name.startswith("slot.")]
    assert bundle.manifest.extra["verified"]["serve_error"] <= 1e-6
    forward, serve = (places(bundle.path(graphs[kind].file)) for kind in ("forward", "serve"))
    assert serve == forward


def test_biases_get_slots_and_gradients(bert_folder: Path, tmp_path: Path) -> None:
    """With both kinds every chosen module has two slots of one name, whose gradients are verified together."""
    more = ("--device", TRAINER, "--adapter-kinds", "lora,bias", "--no-serve-graph", "--json")
    assert export(command(bert_folder, tmp_path / "out", *more)) == 0
    m = opened(tmp_path / "out", TRAINER).manifest
    assert [s.kind for s in m.slots] == ["lora", "bias"] * 4
    assert [s.name for s in m.slots_of("lora")] == [s.name for s in m.slots_of("bias")] == list(m.segments[0].slots)
    backward = next(graph for graph in m.segments[0].graphs if graph.kind == "backward")
    assert {f"grad.{s.bias}" for s in m.slots_of("bias")} < {t.name for t in backward.outputs}
    assert [graph.kind for graph in m.segments[0].graphs] == ["forward", "backward"]


def test_adapters_and_head_change_the_output(exported: Path) -> None:
    """The golden adapter and head are not zero: without them the chain computes something else."""
    bundle = opened(exported, TRAINER)
    fed, fetched = read_golden(bundle.path("golden.safetensors"))
    chain = Chain(links_of(bundle))
    bare = chain.forward({name: value for name, value in fed.items() if not name.startswith("slot.")})
    assert np.abs(bare["features"] - fetched["features"]).max() > 1e-2
    assert np.abs(fetched["logits"]).max() > 0.1


def test_inspect_and_verify(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both read a bundle back: one in words, the other with its signature and its golden values."""
    assert inspect([str(exported / TRAINER)]) == 0
    words = capsys.readouterr().out
    for word in (TRAINER, "mode train", "segment0", "backward", "cat, dog, tree", "feature cosine"):
        assert word in words
    assert inspect([str(exported / TRAINER), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["device"] == TRAINER
    public = str(exported / "keys" / "publisher.pub")
    assert verify([str(exported / TRAINER), "--trust", public]) == 0
    assert "signed by publisher" in capsys.readouterr().out


def test_the_page_of_an_export(exported: Path, tmp_path: Path) -> None:
    """Both boards are drawn: blocks by module, slots where they are, and the figures of the manifests."""
    target = tmp_path / "page.html"
    assert inspect([str(exported / TRAINER), str(exported / SECOND), "--html", str(target)]) == 0
    found = Page(target.read_text(encoding="utf-8"))
    assert (found.wrong, found.open) == ([], [])
    modules = ["embeddings", *(f"encoder.layer.{i}" for i in range(4))]
    assert [words for words in found.words if words in modules] == [m for m in modules for _ in range(2)] * 2
    assert found.words.count("◆ 2 slots") == 4  # the upper two of four blocks, query and value, on two boards
    for name in (TRAINER, SECOND):
        for graph in opened(exported, name).manifest.segments[0].graphs:
            assert graph.memory.measured_bytes is not None
            predicted, measured = graph.memory.predicted_bytes / 2**20, graph.memory.measured_bytes / 2**20
            assert f"{predicted:.1f} MiB predicted, {measured:.1f} measured" in found.text


def test_verify_refuses_another_publisher(exported: Path, tmp_path: Path) -> None:
    """A bundle is believed only from a key that is trusted."""
    _, other = write_key(new_key("publisher", "other"), tmp_path)
    with pytest.raises(SignatureError, match="trusted publisher key"):
        verify([str(exported / TRAINER), "--trust", str(other)])


@pytest.mark.parametrize("name", ["segment0.weights.bin", "segment0.backward.onnx", "tokenizer.json"])
def test_a_flipped_byte_is_refused(name: str, exported: Path) -> None:
    """One bit of any file, and the bundle is refused by that file's name; put back, it is whole again."""
    path = exported / SECOND / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    try:
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=f"{name} has another SHA-256"):
            inspect([str(exported / SECOND)])
    finally:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    assert digest(path.read_bytes()) in {file.sha256 for file in opened(exported, SECOND).manifest.files}


def test_golden_values_that_differ_are_refused(exported: Path) -> None:
    """A runtime that computes something else is told from one that rounds otherwise."""
    bundle = opened(exported, TRAINER)
    path = bundle.path("golden.safetensors")
    kept = path.read_bytes()
    fed, fetched = read_golden(path)
    fetched["features"][0, 0] += 1e-2
    try:
        write_golden(path, fed, fetched)
        with pytest.raises(VerificationError, match=r"features of .* within 0\.0001 of its golden value, found 0\.0"):
            check_golden(bundle)
    finally:
        path.write_bytes(kept)


REFUSED: dict[str, tuple[list[str], type[Exception], str]] = {
    "no such board": (["--device", "raspberry-pi-9"], UsageError, "expected the name of a board"),
    "a board that no split fits": (
        ["--device", TRAINER, "--budget", "40MiB"],
        DoesNotFit,
        r"raspberry-pi-zero-2w .*budget of 40\.0 MiB.*smallest predicted need .*--budget.*--sequence.*--mode serve",
    ),
    "a size that is none": (["--device", TRAINER, "--budget", "lots"], UsageError, "expected a size such as 200MiB"),
    "a rank of another board": (
        ["--device", TRAINER, "--rank", f"{SECOND}=4"],
        UsageError,
        "expected --rank NAME=VALUE",
    ),
    "a rank of nothing": (["--device", TRAINER, "--rank", "0"], UsageError, "expected a --rank of 1 to 1024"),
    "too long": (["--device", TRAINER, "--sequence", "500"], UsageError, "expected a --sequence of 1 to 48 tokens"),
    "no labels": (
        ["--device", TRAINER, "--labels", "nowhere.txt"],
        Exception,
        "expected a file of labels at nowhere.txt",
    ),
    "unknown label": (["--device", TRAINER, "--data", "DATA"], BadData, "unknown ones .line 1: 'bird'"),
    "a key that is none": (["--device", TRAINER, "--key", "DATA"], SignatureError, "expected an edgequilt private key"),
    "targets that match nothing": (
        ["--device", TRAINER, "--adapter-targets", "^none$"],
        Exception,
        "there are encoder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, bert_folder: Path, tmp_path: Path) -> None:
    """What cannot be done is said in one sentence, and nothing is left behind."""
    more, error, words = REFUSED[case]
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "tweet", "label": "bird"}\n')
    out = tmp_path / "out"
    line = command(bert_folder, out, *[str(data) if word == "DATA" else word for word in more])
    with pytest.raises(error, match=words):
        export(line)
    assert not out.exists() or not any(out.iterdir())
