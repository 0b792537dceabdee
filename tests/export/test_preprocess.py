from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from transformers import AutoImageProcessor, AutoTokenizer

from console.errors import UnsupportedModel
from export.preprocess import image_preprocessing, text_preprocessing

SENTENCES = ("The cat sat on the mat.", "dogs ran", "", "an unknown word")


def copied(folder: Path, to: Path) -> Path:
    """A model folder that a test may change."""
    return Path(shutil.copytree(folder, to / "model"))


def edited(folder: Path, name: str, **changes: Any) -> None:
    """Change fields of a JSON file."""
    path = folder / name
    described = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**described, **changes}))


def test_the_tokenizer_makes_the_same_ids_as_the_original(bert_folder: Path, tmp_path: Path) -> None:
    """The written file gives transformers' ids for every sentence, and neither pads nor cuts."""
    found = text_preprocessing(bert_folder, tmp_path)
    theirs, ours = AutoTokenizer.from_pretrained(bert_folder), Tokenizer.from_file(str(found.files[0]))
    for sentence in SENTENCES:
        assert ours.encode(sentence).ids == theirs(sentence)["input_ids"]
    assert (ours.padding, ours.truncation) == (None, None)
    assert found.parameters == {"max_length": 48, "pad_id": 0, "pad_token": "[PAD]"}


def test_a_tokenizer_is_converted_where_only_its_vocabulary_is_there(bert_folder: Path, tmp_path: Path) -> None:
    """A folder with vocab.txt alone gets a tokenizer.json with the same ids."""
    folder = copied(bert_folder, tmp_path)
    words = sorted(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("\n".join(word for word, _ in words))
    (folder / "tokenizer.json").unlink()
    edited(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=True)
    ours = Tokenizer.from_file(str(text_preprocessing(folder, tmp_path).files[0]))
    for sentence in SENTENCES:
        assert ours.encode(sentence).ids == AutoTokenizer.from_pretrained(bert_folder)(sentence)["input_ids"]


def test_padding_inside_the_file_is_taken_out(minilm_folder: Path, tmp_path: Path) -> None:
    """all-MiniLM-L6-v2's tokenizer.json pads everything to 128; what boards get does not."""
    found = text_preprocessing(minilm_folder, tmp_path)
    assert len(Tokenizer.from_file(str(minilm_folder / "tokenizer.json")).encode("two words").ids) == 128
    assert len(Tokenizer.from_file(str(found.files[0])).encode("two words").ids) == 4
    # sentence_bert_config.json says 256, the positions would allow 512
    assert found.parameters["max_length"] == 256


def test_positions_that_start_behind_the_padding_are_counted(bert_folder: Path, tmp_path: Path) -> None:
    """RoBERTa's 48 position embeddings place 46 tokens: two are for the padding id and before."""
    folder = copied(bert_folder, tmp_path)
    edited(folder, "config.json", model_type="roberta", pad_token_id=1)
    assert text_preprocessing(folder, tmp_path).parameters["max_length"] == 46


def test_a_tokenizer_must_be_there_and_fit(bert_folder: Path, tmp_path: Path) -> None:
    """No tokenizer, and one with more tokens than the model, are refused."""
    folder = copied(bert_folder, tmp_path)
    edited(folder, "config.json", vocab_size=10)
    with pytest.raises(UnsupportedModel, match="expected a tokenizer of at most 10 tokens, .* found 20"):
        text_preprocessing(folder, tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match="expected a fast tokenizer .* save the tokenizer beside the model"):
        text_preprocessing(folder, tmp_path)


def prepared(picture: Image.Image, parameters: dict[str, Any]) -> np.ndarray:
    """One picture as the parameters say, with Pillow and numpy alone: what a board does."""
    width, height = picture.size
    if "shortest_edge" in parameters:
        ratio = parameters["shortest_edge"] / min(width, height)
        size = (int(width * ratio), int(height * ratio))
    else:
        size = (parameters["resize_width"], parameters["resize_height"])
    picture = picture.resize(size, getattr(Image.Resampling, parameters["resample"].upper()))
    top, left = (picture.size[1] - parameters["height"]) // 2, (picture.size[0] - parameters["width"]) // 2
    pixels = np.asarray(picture, np.float32)[top : top + parameters["height"], left : left + parameters["width"]]
    normal = (pixels * parameters["rescale"] - np.array(parameters["mean"])) / np.array(parameters["std"])
    return np.moveaxis(normal, -1, 0)


@pytest.mark.parametrize(
    ("processor", "changes"),
    [
        ("ViTImageProcessor", {}),
        ("ViTImageProcessor", {"resample": 3}),
        (
            "CLIPImageProcessor",
            {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}},
        ),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 16}, "crop_pct": 0.7}),
    ],
)
def test_pictures_are_prepared_as_the_original_does(
    processor: str, changes: dict[str, Any], vit_folder: Path, tmp_path: Path
) -> None:
    """Pillow and the written numbers give transformers' pixel values, with and without a cut."""
    folder = copied(vit_folder, tmp_path)
    edited(folder, "preprocessor_config.json", image_processor_type=processor, **changes)
    pixels = np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    theirs = AutoImageProcessor.from_pretrained(folder, use_fast=False)(picture, return_tensors="np")["pixel_values"][0]
    ours = prepared(picture, image_preprocessing(folder).parameters)
    assert np.max(np.abs(ours - theirs)) < 1e-5


def test_sizes_must_agree(vit_folder: Path, tmp_path: Path) -> None:
    """A preparation for another size, and means for other channels, are refused with both numbers."""
    folder = copied(vit_folder, tmp_path)
    edited(folder, "preprocessor_config.json", size={"height": 32, "width": 32})
    with pytest.raises(UnsupportedModel, match="expected pictures of 16 x 16, .* found 32 x 32"):
        image_preprocessing(folder)
    edited(folder, "preprocessor_config.json", size={"height": 16, "width": 16}, image_mean=[0.5])
    with pytest.raises(UnsupportedModel, match="expected 3 numbers, one per channel, .* found 1"):
        image_preprocessing(folder)


@pytest.mark.parametrize(
    ("processor", "changes", "size"),
    [
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 24}, "crop_pct": 0.7}, 24),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 400}, "crop_pct": 0.7}, 400),
        ("ViTImageProcessor", {"size": {"height": 20, "width": 20}}, 20),
    ],
)
def test_a_net_of_any_size_takes_that_of_its_processor(
    processor: str, changes: dict[str, Any], size: int, vit_folder: Path, tmp_path: Path
) -> None:
    """Where config.json says no size the processor's is that of the graph, and pixels are still transformers'."""
    folder = copied(vit_folder, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["image_size"]
    (folder / "config.json").write_text(json.dumps(config))
    edited(folder, "preprocessor_config.json", image_processor_type=processor, **changes)
    picture = Image.fromarray(np.random.default_rng(6).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    theirs = AutoImageProcessor.from_pretrained(folder, use_fast=False)(picture, return_tensors="np")["pixel_values"][0]
    parameters = image_preprocessing(folder).parameters
    assert (parameters["height"], parameters["width"]) == (size, size) == theirs.shape[1:]
    assert np.max(np.abs(prepared(picture, parameters) - theirs)) < 1e-5


def test_without_a_description_the_defaults_of_vit_hold(vit_folder: Path, tmp_path: Path) -> None:
    """Size and channels come from config.json, the rest are the defaults of ViT's own processor."""
    folder = copied(vit_folder, tmp_path)
    (folder / "preprocessor_config.json").unlink()
    found = image_preprocessing(folder).parameters
    assert (found["height"], found["width"], found["channels"]) == (16, 16, 3)
    assert (found["mean"], found["std"], found["rescale"]) == ([0.5] * 3, [0.5] * 3, 1 / 255)
