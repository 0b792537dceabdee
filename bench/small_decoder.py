"""A small GPT-2 trained on lines of text: a decoder with weights that mean something, for studies of formats.

    python -m bench.small_decoder TEXTS.txt --out FOLDER [--steps 400]

Random weights have no outliers, no tied directions and no text that they predict, so that what formats cost them says
little. This trains 2.9 million parameters (3 blocks of 256, 2,048 tokens of byte-level BPE) for some minutes on one
core; the folder is one that `save_pretrained` writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

END = "<|endoftext|>"
VOCABULARY, POSITIONS, WIDTH, BLOCKS, HEADS = 2048, 256, 256, 3, 4
BATCH, WINDOW, RATE = 16, 48, 1.5e-3
WARM_UP = 50  # steps


def main(argv: Sequence[str] | None = None) -> None:
    """Train and save."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    p.add_argument("texts", type=Path, help="a text per line")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, default=400)
    options = p.parse_args(argv)
    texts = [line.strip() for line in options.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    tokenizer = tokenizer_of(texts)
    model = trained([[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts], options.steps)
    tokenizer.save_pretrained(options.out)
    model.save_pretrained(options.out)
    print(f"wrote {sum(weight.numel() for weight in model.parameters())} parameters to {options.out}")


def tokenizer_of(texts: Sequence[str]) -> Any:
    """Byte-level BPE of these texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet)
    made.train_from_iterator(texts, trainer)
    marks = dict.fromkeys(("eos_token", "bos_token", "pad_token"), END)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=POSITIONS, **marks)


def trained(
    rows: Sequence[Sequence[int]], steps: int, width: int = WIDTH, blocks: int = BLOCKS, window: int = WINDOW
) -> Any:
    """AdamW over random windows of all rows in an order drawn from a seed."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    torch.set_num_threads(1)
    drawn = torch.Generator().manual_seed(0)
    order = torch.randperm(len(rows), generator=drawn).tolist()
    tokens = torch.tensor([token for at in order for token in rows[at]])
    sizes = {"n_positions": POSITIONS, "n_embd": width, "n_layer": blocks, "n_head": HEADS}
    dropped = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **sizes, **dropped))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * max(0.02, 1 - step / steps)
    )
    for step in range(steps):
        starts = torch.randint(0, len(tokens) - window, (BATCH,), generator=drawn)
        windows = torch.stack([tokens[start : start + window] for start in starts])
        loss = model(input_ids=windows, labels=windows).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1}: {loss.item():.3f} nats a token", flush=True)
    return model.eval()


if __name__ == "__main__":
    main()
