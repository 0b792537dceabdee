"""A Llama of about 100 million parameters with random weights, for measurements of memory and time; made offline.

    python -m bench.small_llama --out FOLDER [--layers 12] [--width 768] [--vocabulary 32000]

What a step takes does not depend on what the weights are. The tokenizer knows bytes, and made-up words up to the
vocabulary; the folder is one that `save_pretrained` writes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

END = "<|endoftext|>"
POSITIONS = 256
HEAD_WIDTH = 64


def main(argv: Sequence[str] | None = None) -> None:
    """Make it."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--layers", type=int, default=12)
    p.add_argument("--width", type=int, default=768)
    p.add_argument("--vocabulary", type=int, default=32000)
    options = p.parse_args(argv)
    count = make_llama(options.out, layers=options.layers, width=options.width, vocabulary=options.vocabulary)
    print(f"wrote {count} parameters to {options.out}")


def make_llama(
    folder: Path, *, layers: int = 12, width: int = 768, vocabulary: int = 32000, tied: bool = True, seed: int = 0
) -> int:
    """Write the folder; returns the number of parameters.

    Args:
        folder: where to.
        layers: blocks.
        width: of the residual stream, a multiple of 64; inner layers are 8/3 as wide, in steps of 256.
        vocabulary: tokens, at least 300.
        tied: whether the output layer is the embedding table.
        seed: of the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=-(-width * 8 // 3 // 256) * 256,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        num_key_value_heads=width // HEAD_WIDTH,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_bytes_tokenizer(folder, vocabulary)
    return sum(weight.numel() for weight in model.parameters())


def write_bytes_tokenizer(folder: Path, vocabulary: int) -> None:
    """A tokenizer of bytes, an end mark (0) and made-up words up to the size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    known = [END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = [f"<word{number}>" for number in range(vocabulary - len(known))]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate([*known, *words])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    main()
