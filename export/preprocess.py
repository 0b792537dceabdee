"""How text or pictures become a model's input, read from a model folder and written down for boards.

Boards have `tokenizers` and Pillow, not transformers: what transformers spreads over several files and
classes is brought to one tokenizer file, or to one small table of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from console.errors import UnsupportedModel
from export.quiet import quiet
from export.sources.folder import first_line, read_json

# position ids of these start behind the padding id: transformers, create_position_ids_from_input_ids
OFFSET_POSITIONS = (
    "camembert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
)
IMAGE_SIZE = 224  # where nothing is said: that of ImageNet's nets
WARPED_FROM = 384  # from here on ConvNext's processor cuts nothing off
# Pillow's numbers for its filters, as preprocessor_config.json holds them
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


@dataclass(frozen=True)
class Preprocessing:
    """Files and numbers that turn one example into input tensors.

    Text: `files` is one tokenizer.json without truncation or padding (the bucket decides about both), and
    `parameters` holds `max_length` (tokens that the model can place, its special tokens included), `pad_id`
    and `pad_token`.

    Image: no files; a picture is resized (to `resize_height` x `resize_width`, or so that its shorter side
    has `shortest_edge` pixels and the other int(shortest_edge * longer / shorter)) with Pillow's filter
    `resample`, cut in its centre to `height` x `width`, and then `(pixel * rescale - mean) / std` for each
    of `channels`, in the order channels, rows, columns. Without any size it is not resized.

    Tensors: no files; arrays are fed as they are. Where samples of sound are taken, `sampling_rate` is theirs in Hz,
    and `normalize` says that each sound is brought to zero mean and unit variance first.
    """

    kind: Literal["text", "image", "tensors"]
    files: tuple[Path, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


def text_preprocessing(folder: Path, work: Path) -> Preprocessing:
    """The tokenizer of a model folder, written to `work`/tokenizer.json.

    Raises:
        UnsupportedModel: there is no tokenizer, or it makes ids that the model does not have.
    """
    config = read_json(folder, "config.json", required=True)
    tokenizer = _tokenizer(folder)
    known, made = int(config.get("vocab_size", 0)), int(tokenizer.get_vocab_size(with_added_tokens=True))
    if known and made > known:
        raise UnsupportedModel(
            f"expected a tokenizer of at most {known} tokens, as config.json says, found {made} in {folder}; "
            "take model and tokenizer from the same place"
        )
    padding = tokenizer.padding or {}
    pad_token = _pad_token(folder) or padding.get("pad_token")
    pad_id = tokenizer.token_to_id(pad_token) if pad_token else None
    if pad_id is None:
        pad_id = config.get("pad_token_id") or 0
    tokenizer.no_padding()
    tokenizer.no_truncation()
    written = work / "tokenizer.json"
    tokenizer.save(str(written), pretty=False)
    parameters = {"max_length": _max_length(folder, config), "pad_id": int(pad_id), "pad_token": pad_token or ""}
    return Preprocessing("text", (written,), parameters)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, use_fast=True).backend_tokenizer
    except Exception as error:  # tokenizers raises bare Exception, transformers half a dozen classes
        raise UnsupportedModel(
            f"expected a fast tokenizer (tokenizer.json, or files that transformers can convert to one) in {folder}, "
            f"found none that can be read ({first_line(error)}); save the tokenizer beside the model"
        ) from error


def _pad_token(folder: Path) -> str | None:
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        token = read_json(folder, name).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    return None


def _max_length(folder: Path, config: dict[str, Any]) -> int:
    """The smallest of the limits that a folder states; transformers writes 1e30 for "no limit"."""
    positions = int(config.get("max_position_embeddings", 512))
    if config.get("model_type") in OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id", 1)) + 1
    stated = [
        read_json(folder, "tokenizer_config.json").get("model_max_length"),
        read_json(folder, "sentence_bert_config.json").get("max_seq_length"),
    ]
    return int(min([positions, *(limit for limit in stated if isinstance(limit, (int, float)) and limit > 0)]))


def image_preprocessing(folder: Path) -> Preprocessing:
    """Sizes and normalisation of a vision model.

    Where config.json says no image_size (nets of convolutions take any), preprocessor_config.json decides. Without
    that file ViT's defaults hold: resize, 1/255, mean and deviation 0.5.

    Raises:
        UnsupportedModel: the sizes contradict each other or the channels.
    """
    config = read_json(folder, "config.json", required=True)
    given = _image_processor(folder)
    channels = int(config.get("num_channels", 3))
    stated = config.get("image_size")
    resize, cropped = _geometry(given, IMAGE_SIZE if stated is None else stated)
    resized = _pair(resize) if resize is not None and not _edge(resize) else None
    height, width = _pair(stated if stated is not None else cropped or resized or _edge(resize) or IMAGE_SIZE)
    final = cropped or resized or (height, width)
    if final != (height, width):
        raise UnsupportedModel(
            f"expected pictures of {height} x {width}, as config.json says, found {final[0]} x {final[1]} in "
            f"preprocessor_config.json of {folder}; correct one of them"
        )
    normalize, rescale = given.get("do_normalize", True), given.get("do_rescale", True)
    parameters: dict[str, Any] = {
        "height": height,
        "width": width,
        "channels": channels,
        "mean": _per_channel(given.get("image_mean", 0.5) if normalize else 0.0, channels, folder),
        "std": _per_channel(given.get("image_std", 0.5) if normalize else 1.0, channels, folder),
        "rescale": float(given.get("rescale_factor", 1 / 255)) if rescale else 1.0,
        "resample": FILTERS[int(given.get("resample", 2))],
    }
    if resize is not None and _edge(resize):
        parameters["shortest_edge"] = _edge(resize)
    elif resize is not None:
        parameters["resize_height"], parameters["resize_width"] = _pair(resize)
    return Preprocessing("image", (), parameters)


def sound_preprocessing(folder: Path) -> Preprocessing:
    """Sampling rate and normalisation of a model of sounds, where its folder has a preprocessor_config.json."""
    given = read_json(folder, "preprocessor_config.json")
    return sound(given.get("sampling_rate"), normalize=given.get("do_normalize") is True)


def sound(sampling_rate: Any, *, normalize: bool = False) -> Preprocessing:
    """Tensors, with a sampling rate in Hz where it is one."""
    known = isinstance(sampling_rate, (int, float)) and not isinstance(sampling_rate, bool) and sampling_rate >= 1
    parameters: dict[str, Any] = {"sampling_rate": int(sampling_rate)} if known else {}
    return Preprocessing("tensors", (), parameters | ({"normalize": True} if normalize else {}))


def _geometry(given: dict[str, Any], otherwise: Any) -> tuple[Any, tuple[int, int] | None]:
    """What a picture is resized to, None for not at all, and what is then cut out of its centre, if anything is."""
    resize = given.get("size", otherwise) if given.get("do_resize", True) else None
    edge, share = _edge(resize), given.get("crop_pct")
    if edge and share:  # ConvNextImageProcessor.resize in transformers
        if edge >= WARPED_FROM:
            return {"height": edge, "width": edge}, None
        return {"shortest_edge": int(edge / share)}, (edge, edge)
    return resize, _pair(given["crop_size"]) if given.get("do_center_crop") and "crop_size" in given else None


def _image_processor(folder: Path) -> dict[str, Any]:
    """All fields of preprocessor_config.json, with what the class that it names fills in; empty without one."""
    if not read_json(folder, "preprocessor_config.json"):
        return {}
    try:
        with quiet():
            from transformers import AutoImageProcessor

            described: dict[str, Any] = AutoImageProcessor.from_pretrained(folder, use_fast=False).to_dict()
    except Exception as error:  # transformers raises half a dozen classes
        raise UnsupportedModel(
            f"expected a preprocessor_config.json that transformers can read in {folder}, found one that it "
            f"cannot ({first_line(error)}); save the image processor beside the model"
        ) from error
    return described


def _edge(size: Any) -> int | None:
    return int(size["shortest_edge"]) if isinstance(size, dict) and "shortest_edge" in size else None


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a size, which may be one number, two, or a table."""
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[1])
    return int(size), int(size)


def _per_channel(numbers: Any, channels: int, folder: Path) -> list[float]:
    listed = [float(n) for n in numbers] if isinstance(numbers, (list, tuple)) else [float(numbers)] * channels
    if len(listed) != channels:
        raise UnsupportedModel(
            f"expected {channels} numbers, one per channel, in image_mean and image_std of {folder}, "
            f"found {len(listed)}; correct preprocessor_config.json"
        )
    return listed
