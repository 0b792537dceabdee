"""Models with the head that they came with: text, pictures and sound, each against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from console.errors import UnsupportedModel, UsageError
from export.prepare import Prepared, Wanted, prepare
from export.stage import Key, build_stage
from export.stage_checks import verify_stage
from tests.export.models import write_tokenizer

LABELS = ("calm", "storm", "fog")


def save(cls: Any, config: Any, folder: Path) -> Any:
    """Draw a model's weights and save it; the model, ready to be asked."""
    torch.manual_seed(4)
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape) * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return model


def labelled(**sizes: Any) -> dict[str, Any]:
    """A configuration's fields with named classes."""
    names = dict(enumerate(LABELS))
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}, **sizes}


def ready(folder: Path, task: str, sequence: int | None = None, **sizes: int) -> Prepared:
    """Captured with its own head."""
    wanted = Wanted(str(folder), task, sequence=sequence, targets="", sizes=sizes)
    return prepare(wanted, ("fp32",), ("serve",), folder / "work")


def agrees(prepared: Prepared, model: Any, output: str, batch: int = 2) -> None:
    """Cut in three, the chain is verified against the export, and the export computes what the model does."""
    positions = prepared.cost(batch, "serve").positions
    cuts = tuple(positions[len(positions) * k // 3] for k in (1, 2))
    stage = build_stage(prepared, Key("serve", "fp32", batch, cuts), prepared.captured.original.parent / "stage")
    verify_stage(prepared, stage)
    runs = prepared.samples(batch, 1)
    with torch.no_grad():
        wanted = getattr(model(**{name: torch.from_numpy(array) for name, array in runs[0].items()}), output).numpy()
    found = prepared.reference(runs, {})[0][output]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def bert_sizes() -> dict[str, int]:
    """A small BERT."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {"vocab_size": 97, "max_position_embeddings": 32, **sizes}


def test_a_classifier_of_texts_keeps_its_head_and_its_labels(tmp_path: Path) -> None:
    """Without labels on the command line the source's own classifier is exported, with the names of its classes."""
    from transformers import BertConfig, BertForSequenceClassification

    model = save(BertForSequenceClassification, BertConfig(**labelled(**bert_sizes())), tmp_path)
    write_tokenizer(tmp_path, max_length=32)
    prepared = ready(tmp_path, "text-classification", sequence=8)
    assert prepared.captured.labels == LABELS
    assert prepared.captured.modality == "text"
    agrees(prepared, model, "logits")


def test_a_filler_of_masks_has_no_labels(tmp_path: Path) -> None:
    """The tied head of a masked language model is the source's own weight, and its outputs are tokens."""
    from transformers import BertConfig, BertForMaskedLM

    model = save(BertForMaskedLM, BertConfig(**bert_sizes()), tmp_path)
    write_tokenizer(tmp_path, max_length=32)
    prepared = ready(tmp_path, "fill-mask", sequence=8)
    assert prepared.captured.labels == ()
    agrees(prepared, model, "logits")


def test_a_classifier_of_pictures(tmp_path: Path) -> None:
    """The picture's size comes from the configuration."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = ViTConfig(**labelled(image_size=16, patch_size=4, **sizes))
    model = save(ViTForImageClassification, config, tmp_path)
    prepared = ready(tmp_path, "image-classification")
    assert (prepared.captured.labels, prepared.captured.modality) == (LABELS, "image")
    agrees(prepared, model, "logits")


def test_a_classifier_of_sound(tmp_path: Path) -> None:
    """The length of a sound is a size with a name, one second unless said otherwise; its rate comes from its folder."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    front = {"conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
    places = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    config = Wav2Vec2Config(**labelled(vocab_size=40, classifier_proj_size=16, **sizes, **front, **places))
    model = save(Wav2Vec2ForSequenceClassification, config, tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "do_normalize": true}')
    prepared = ready(tmp_path, "audio-classification", samples=800)
    assert [list(v.shape or ()) for v in prepared.frozen(2).graph.inputs] == [[2, 800]]
    assert prepared.captured.labels == LABELS
    assert prepared.captured.preprocess.parameters == {"sampling_rate": 16000, "normalize": True}
    agrees(prepared, model, "logits")


def test_a_head_that_the_source_does_not_have_is_refused(tmp_path: Path) -> None:
    """transformers would draw the classifier at random: the layer is named instead."""
    from transformers import BertConfig, BertModel

    save(BertModel, BertConfig(**bert_sizes()), tmp_path)
    write_tokenizer(tmp_path, max_length=32)
    with pytest.raises(UnsupportedModel, match=r"found none for classifier \(1 of \d+ layers\)"):
        ready(tmp_path, "text-classification", sequence=8)


def test_a_task_that_the_model_does_not_have(tmp_path: Path) -> None:
    """The tasks that it has are named; a word that is no task at all is a wrong command line."""
    config = {"model_type": "bert", **bert_sizes()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    words = "expected one of the tasks .*fill-mask.* for bert, found '{}'; change the task or the model"
    with pytest.raises(UnsupportedModel, match=words.format("object-detection")):
        ready(tmp_path, "object-detection")
    with pytest.raises(UsageError, match=words.format("dreaming")):
        ready(tmp_path, "dreaming")
