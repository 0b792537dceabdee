"""Where a model comes from: a Hugging Face id or a folder becomes a folder whose bytes have a digest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError, safe_open

from console.errors import StorageError, UnsupportedModel
from wire.files import digest, file_digest

# "name" or "owner/name": https://huggingface.co/docs/huggingface_hub, repository identifiers
HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
DESCRIPTIONS = ("config.json", "preprocessor_config.json", "sentence_bert_config.json", "README.md")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model")
# the safe format first: the other is read only where a source has nothing else
WEIGHTS = (
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)


def resolve(source: str) -> Path:
    """The folder of a source: the folder itself, or the local copy of a repository of the Hugging Face hub.

    Raises:
        UnsupportedModel: there is no such folder, or the hub cannot be reached or has no such model.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UnsupportedModel(
            f"expected a folder with config.json and weights or a Hugging Face id, found the file {source}; "
            "give the folder that save_pretrained wrote"
        )
    if not HUB_ID.fullmatch(source) or source.startswith("."):
        raise UnsupportedModel(f"expected a model folder at {source}, found nothing; check the path")
    return _download(source)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        for patterns in WEIGHTS:
            wanted = [*DESCRIPTIONS, *TOKENIZERS, *VOCABULARIES, *patterns]
            folder = Path(snapshot_download(name, allow_patterns=wanted))
            if any(folder.glob(patterns[0])):
                break
    except Exception as error:  # the hub, its network library and the file system have no common class
        raise UnsupportedModel(
            f"expected to fetch {name} from the Hugging Face hub, which cannot be reached or does not have it "
            f"({type(error).__name__}); check the name and the network, or give a folder"
        ) from error
    return folder


def read_json(folder: Path, name: str, *, required: bool = False) -> dict[str, Any]:
    """One description file of a model folder; empty when it is absent and not required.

    Raises:
        UnsupportedModel: it is required and absent, or does not hold a JSON object.
    """
    path = folder / name
    if not path.is_file():
        if required:
            raise UnsupportedModel(
                f"expected {name} in {folder}, found none; give the folder that save_pretrained wrote"
            )
        return {}
    try:
        decoded = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnsupportedModel(
            f"expected JSON in {path}, found something else ({error}); fetch the file again"
        ) from error
    if not isinstance(decoded, dict):
        raise UnsupportedModel(f"expected a JSON object in {path}, found a {type(decoded).__name__}")
    return decoded


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights, safetensors before torch's own format.

    Raises:
        UnsupportedModel: it has neither.
    """
    for pattern, _ in WEIGHTS:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise UnsupportedModel(
        f"expected model.safetensors or pytorch_model.bin in {folder}, found neither; "
        "give the folder that save_pretrained wrote"
    )


def weight_names(folder: Path) -> set[str]:
    """The names of all tensors in a folder's weight files; no tensor is read.

    Raises:
        UnsupportedModel: a file is not what its name says.
    """
    names: set[str] = set()
    path = folder
    try:
        for path in weight_files(folder):
            if path.suffix == ".safetensors":
                with safe_open(path, framework="numpy") as file:
                    names.update(file.keys())
            else:
                import torch

                names.update(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except (OSError, SafetensorError, ValueError, RuntimeError, UnpicklingError) as error:
        raise UnsupportedModel(
            f"expected weights in {path}, found something else ({first_line(error)}); fetch the file again"
        ) from error
    return names


def source_digest(folder: Path) -> str:
    """SHA-256 of a model folder: over the names and the digests of config.json and the weight files.

    Raises:
        UnsupportedModel: a file that matters is absent.
        StorageError: one cannot be read.
    """
    files = [folder / "config.json", *weight_files(folder)]
    try:
        lines = [f"{path.name}\0{file_digest(path)}\n" for path in files]
    except OSError as error:
        raise StorageError(
            f"expected to read {error.filename}, which failed ({error.strerror}); check its permissions"
        ) from error
    return digest("".join(lines).encode())


def first_line(error: BaseException) -> str:
    r"""A library's error in one line: its class and the first line of its text.

    >>> first_line(OSError("no such file\nhint: look elsewhere"))
    'OSError: no such file'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
