"""torch + PEFT in a process of its own: `python -m bench.training.theirs MODEL GIVEN.npz [--memory]`.

The model is in eval mode, or BERT's own dropout would slow it down and take memory; factors and head learn.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from bench.training.given import RATE, SCALE, Array, is_causal, read
from bench.training.turns import Step, serve


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("given", type=Path)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.device("meta"):  # loads the files of the architecture, which are imports, too
        (AutoModelForCausalLM if is_causal(options.model) else AutoModel).from_config(
            AutoConfig.from_pretrained(options.model)
        )
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    serve(lambda: made(options.model, read(options.given)), memory=options.memory)
    return 0


def made(folder: Path, given: dict[str, Array]) -> Step:
    """The same step: mean over tokens, the same head, loss, factors and optimizer."""
    causal = "head.weight" not in given
    base = (AutoModelForCausalLM if causal else AutoModel).from_pretrained(folder, device_map="cpu")
    modules = [name.removesuffix(".A") for name in given if name.endswith(".A")]
    rank = given[f"{modules[0]}.A"].shape[1]
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=modules, lora_dropout=0.0)
    model = peft.get_peft_model(base, config).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in modules:
            for part in "AB":
                value = parameters[f"base_model.model.{name}.lora_{part}.default.weight"]
                value.copy_(torch.from_numpy(given[f"{name}.{part}"].T))
    ids = torch.from_numpy(given["ids"])
    mask = torch.ones_like(ids)
    if causal:
        return _step(
            [value for value in model.parameters() if value.requires_grad], lambda: _of_tokens(model, ids, mask)
        )
    weight, labels = torch.from_numpy(given["head.weight"]).requires_grad_(), torch.from_numpy(given["labels"])
    bias = torch.zeros(weight.shape[1], requires_grad=True)
    learning = [*(value for value in model.parameters() if value.requires_grad), weight, bias]
    return _step(learning, lambda: _loss(model, ids, mask, (weight, bias), labels))


def _step(learning: list[torch.Tensor], loss_of: Callable[[], Any]) -> Step:
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.0)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def _of_tokens(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """transformers' own loss of the next token; nothing is generated, so no keys and values are kept."""
    return model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss


def _loss(model: Any, ids: torch.Tensor, mask: torch.Tensor, head: tuple[Any, Any], labels: torch.Tensor) -> Any:
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    marks = mask.unsqueeze(-1).to(hidden.dtype)
    pooled = (hidden * marks).sum(1) / marks.sum(1)
    features = torch.nn.functional.normalize(pooled) * math.sqrt(pooled.shape[1])
    return torch.nn.functional.cross_entropy(features @ head[0] + head[1], labels)


if __name__ == "__main__":
    raise SystemExit(main())
