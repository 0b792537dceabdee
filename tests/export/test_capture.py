from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoModel

from console.errors import MissingDependency, UnsupportedModel, UsageError
from export.capture import capture
from export.sources.captured import Captured
from tests.export.runtime import hidden_of, pictures, run, text, worst

TOLERANCE = 1e-5


def torch_hidden(folder: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the original computes."""
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(folder).eval()(**{n: torch.from_numpy(a) for n, a in feeds.items()})
    return np.asarray(outputs.last_hidden_state.numpy())


def test_a_captured_text_encoder_is_the_original(captured_bert: Captured, bert_folder: Path) -> None:
    """The graph and the untouched file both compute what torch computes, padding included."""
    feeds = text(3, 11)
    wanted = torch_hidden(bert_folder, feeds)
    assert worst(run(captured_bert.original, feeds)[hidden_of(captured_bert)], wanted) <= TOLERANCE
    assert worst(run(captured_bert.model, feeds)[hidden_of(captured_bert)], wanted) <= TOLERANCE


def test_a_captured_picture_encoder_is_the_original(captured_vit: Captured, vit_folder: Path) -> None:
    """The same for pictures, whose size is written into the graph's input."""
    feeds = pictures(2)
    assert worst(run(captured_vit.model, feeds)[hidden_of(captured_vit)], torch_hidden(vit_folder, feeds)) <= TOLERANCE
    shape = captured_vit.model.graph.inputs[0].shape
    assert shape is not None
    assert list(shape)[1:] == [3, 16, 16]


def test_a_capture_says_what_it_is(captured_bert: Captured, captured_vit: Captured) -> None:
    """Modality, hidden output, digest and name are those of the source."""
    assert (captured_bert.modality, captured_vit.modality) == ("text", "image")
    assert hidden_of(captured_bert) == hidden_of(captured_vit) == "last_hidden_state"
    assert len(captured_bert.source_sha256) == 64
    assert captured_bert.source_sha256 != captured_vit.source_sha256
    assert captured_bert.name.startswith("bert")


@pytest.mark.parametrize("which", ["captured_bert", "captured_distilbert", "captured_vit"])
def test_linear_weights_are_known_by_their_modules(which: str, request: pytest.FixtureRequest) -> None:
    """Every named weight, turned, is the weight of that module in the original."""
    captured: Captured = request.getfixturevalue(which)
    original = AutoModel.from_pretrained(request.getfixturevalue(which.replace("captured_", "") + "_folder"))
    modules = dict(original.named_modules())
    linear = {name for name, module in modules.items() if isinstance(module, torch.nn.Linear)}
    # the pooler is not part of the hidden states
    assert set(captured.modules.values()) == {name for name in linear if not name.startswith("pooler")}
    for name, path in captured.modules.items():
        held = captured.model.graph.initializers[name].const_value
        assert held is not None
        assert np.array_equal(held.numpy(), modules[path].weight.detach().numpy().T)


def test_weights_stay_on_disk(captured_bert: Captured) -> None:
    """Large weights are mapped from a file beside the original, not held in memory."""
    weights = [captured_bert.model.graph.initializers[name].const_value for name in captured_bert.modules]
    assert all(isinstance(weight, ir.ExternalTensor) for weight in weights)
    assert (captured_bert.original.parent / "original.bin").stat().st_size > 100_000


def test_nothing_of_the_exporter_reaches_the_terminal(
    bert_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither log lines, warnings nor bars of torch, transformers and optimum appear; nothing else is left."""
    capture(str(bert_folder), "text-classification", tmp_path)
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original.bin", "original.onnx", "tokenizer.json"]


def folder_of(tmp_path: Path, **config: object) -> Path:
    """A folder that looks like a model, with a configuration."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "nosuch"}, r"found 'nosuch' in .*: transformers [\d.]+ does not know it; choose a model"),
        ({}, "found '' in .*does not know it"),
        ({"model_type": "xlnet"}, "found 'xlnet' in .*: optimum-onnx has no exporter for it"),
        (
            {"model_type": "bert"},
            "expected a model that optimum can export for feature-extraction, found that .* cannot be",
        ),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused(config: dict[str, object], words: str, tmp_path: Path) -> None:
    """Unknown architectures and broken weights end in one sentence, and leave nothing behind."""
    source, work = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    with pytest.raises(UnsupportedModel, match=words) as caught:
        capture(str(folder_of(source, **config)), "feature-extraction", work)
    assert "\n" not in str(caught.value)
    assert list(work.iterdir()) == []


def test_weights_that_the_source_does_not_have_are_not_invented(bert_folder: Path, tmp_path: Path) -> None:
    """Five layers configured, four stored: transformers would draw the fifth at random and only log it."""
    folder = Path(shutil.copytree(bert_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    words = r"expected weights for every layer in .*, found none for encoder\.layer\.4\..*query \(6 of 30 layers\)"
    with pytest.raises(UnsupportedModel, match=words):
        capture(str(folder), "feature-extraction", tmp_path / "work")


def test_weights_in_the_old_format_and_under_a_prefix_are_found(bert_folder: Path, tmp_path: Path) -> None:
    """pytorch_model.bin of a model with another head (`bert.` before each name) is the same encoder."""
    folder = Path(shutil.copytree(bert_folder, tmp_path / "model"))
    state = {f"bert.{name}": tensor for name, tensor in AutoModel.from_pretrained(folder).state_dict().items()}
    torch.save({**state, "classifier.weight": torch.zeros(2, 32)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    captured = capture(str(folder), "feature-extraction", tmp_path / "work")
    feeds = text(2, 5)
    assert worst(run(captured.model, feeds)["last_hidden_state"], torch_hidden(bert_folder, feeds)) <= TOLERANCE


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    """A model that reads more than an encoder does is refused with the names of its inputs."""
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, n_positions=16)).save_pretrained(
        tmp_path / "gpt2"
    )
    with pytest.raises(UnsupportedModel, match="expected an encoder that reads .* found .*position_ids"):
        capture(str(tmp_path / "gpt2"), "feature-extraction", tmp_path / "work")


def test_a_clash_of_versions_says_what_is_needed(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where optimum cannot be imported, the message names what is needed, what is there and the extra to install."""
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    words = r"expected optimum-onnx 0.1 with transformers 4.36 to 4.57, found optimum \d.* install edgequilt\[export\]"
    with pytest.raises(MissingDependency, match=words):
        capture(str(bert_folder), "feature-extraction", tmp_path)


def test_an_export_that_fails_under_other_versions_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model is refused for itself under the versions that are declared, and for the versions otherwise."""
    source = tmp_path / "source"
    source.mkdir()
    folder_of(source, model_type="bert")
    with pytest.raises(UnsupportedModel, match="cannot be"):
        capture(str(source), "feature-extraction", tmp_path / "work")
    there = tmp_path / "site" / "transformers-5.0.0.dist-info"
    there.mkdir(parents=True)
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n")
    monkeypatch.syspath_prepend(there.parent)
    words = r"expected optimum-onnx 0.1 with transformers 4.36 to 4.57, found .*transformers 5\.0\.0, torch"
    with pytest.raises(MissingDependency, match=words):
        capture(str(source), "feature-extraction", tmp_path / "work")


def test_a_task_must_exist_and_fit(vit_folder: Path, tmp_path: Path) -> None:
    """An unknown task lists the known ones; a task of text is refused for a model of pictures."""
    with pytest.raises(UsageError, match="expected one of the tasks feature-extraction, .* found 'dreaming'"):
        capture(str(vit_folder), "dreaming", tmp_path)
    with pytest.raises(UnsupportedModel, match="expected a model that reads text for text-classification"):
        capture(str(vit_folder), "text-classification", tmp_path)
