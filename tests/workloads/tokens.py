"""Tokenizers that know as many words as a model's table has rows, so that every row can be reached."""

from __future__ import annotations

import json
from pathlib import Path

MARKS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
END = "<|endoftext|>"


def word_tokenizer(folder: Path, size: int, max_length: int) -> None:
    """WordPiece with BERT's template over letters and made-up words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = [*MARKS.values(), *letters, *(f"##{letter}" for letter in letters), *".,;'?!-0123456789"]
    known += [f"word{number}" for number in range(size - len(known))]
    vocabulary = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _describe(folder, MARKS, max_length)


def byte_tokenizer(folder: Path, size: int, max_length: int) -> None:
    """Bytes as GPT-2 spells them, an end mark (0), padding (1), and made-up words up to the size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [END, "<pad>", *symbols]
    vocabulary = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, "<pad>"])
    tokenizer.add_tokens([f"<word{number}>" for number in range(size - len(known))])
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"pad_token": "<pad>", "unk_token": END, "eos_token": END, "bos_token": END}
    _describe(folder, marks, max_length)


def _describe(folder: Path, marks: dict[str, str], max_length: int) -> None:
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks), encoding="utf-8")
