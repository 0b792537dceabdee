"""The two models in torch, frozen, with places for adapters and a border where a front ends."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bench.splitting.crossing import Border
from wire.activations import Coding

SCALE = 2.0  # of every rank
IGNORED = -100
BLOCK = re.compile(r"(?:layer|h)\.(\d+)(?:\.|$)")
Factors = Mapping[str, tuple[Tensor, Tensor]]


@dataclass
class Slotted:
    """A frozen model whose modules add scale (x A) B of the factors that are `fed`.

    Attributes:
        model: a decoder, or an encoder whose mean over tokens goes to a head.
        rows: token ids [n, tokens], how many are real [n], and labels: [n, tokens] next tokens or [n] classes.
        slots: modules, in the order of the model, with [in, out].
        decodes: whether it is a decoder.
        border: blocks of the front; 0: all in one place.
        coding: of what crosses.
    """

    model: Any
    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    slots: dict[str, tuple[int, int]]
    decodes: bool
    border: int = 0
    coding: Coding = "float32"
    fed: Factors = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def there(self, array: NDArray[Any]) -> Tensor:
        """An array as a tensor where the model is."""
        return torch.from_numpy(array).to(self.device)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Ids and mask of some rows, cut to the longest among them."""
        longest, lengths = int(self.lengths[rows].max()), self.there(self.lengths[rows])
        mask = torch.arange(longest, device=self.device) < lengths[:, None]
        return self.there(self.ids[rows, :longest]), mask

    @property
    def blocks(self) -> int:
        """How many the model has."""
        return 1 + max(self.block(name) for name in self.slots)

    @property
    def width(self) -> int:
        """Of what crosses."""
        return int(self.model.config.hidden_size)

    def block(self, slot: str) -> int:
        """The number of a slot's block."""
        found = BLOCK.search(slot)
        return int(found[1]) if found else 0

    def block_values(self) -> int:
        """Weights of one block."""
        return sum(int(p.numel()) for name, p in self.model.named_parameters() if self.block_of(name) == 0)

    def block_of(self, name: str) -> int | None:
        """The block that a parameter or a module is in; None outside."""
        found = BLOCK.search(name)
        return int(found[1]) if found else None

    def losses(self, rows: NDArray[np.int64], fed: Factors, head: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """The sum of losses over what is to be predicted, and how many of it are right and how many there are, [2]."""
        self.fed = fed
        ids, mask = self.batch(rows)
        if self.decodes:
            wanted = self.there(self.labels[rows, : ids.shape[1]]).flatten()
            logits = self.model(input_ids=ids, attention_mask=mask.long()).logits.flatten(0, 1)
        else:
            wanted = self.there(self.labels[rows])
            logits = self.features(ids, mask) @ head[0] + head[1]
        counts = wanted != IGNORED
        logits, wanted = logits[counts], wanted[counts]
        right = (logits.detach().argmax(dim=-1) == wanted).sum()
        return functional.cross_entropy(logits, wanted, reduction="sum"), torch.stack([right, counts.sum()])

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean over real tokens, of length sqrt(width)."""
        hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return functional.normalize(mean, dim=-1) * float(self.width**0.5)


def slotted(model: Any, rows: tuple[Any, Any, Any], targets: str, *, decodes: bool) -> Slotted:
    """A model with hooks; `rows` are ids, lengths and labels."""
    for weight in model.parameters():
        weight.requires_grad_(False)
    base = getattr(model, "transformer", model)
    stack: Any = base.h if decodes else base.encoder.layer
    named = {id(module): name for name, module in model.named_modules()}
    slots: dict[str, tuple[int, int]] = {}
    made = Slotted(model.eval(), *rows, slots, decodes)
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() != 2 or not re.search(targets, name) or made.block_of(name) is None:
            continue
        turned = type(module).__name__ == "Linear"
        slots[name] = (weight.shape[1], weight.shape[0]) if turned else (weight.shape[0], weight.shape[1])
        module.register_forward_hook(partial(_adapted, made, name))
    for module in stack:
        module.register_forward_hook(partial(_crossed, made, made.block_of(named[id(module)] + ".")))
    return made


def _adapted(made: Slotted, name: str, module: Any, given: Any, output: Any) -> Any:
    if name not in made.fed:
        return output
    a, b = made.fed[name]
    return output + SCALE * ((given[0] @ a) @ b)


def _crossed(made: Slotted, block: int | None, module: Any, given: Any, output: Any) -> Any:
    """What leaves the last block of a front."""
    if not made.border or block != made.border - 1 or made.coding == "float32":
        return output
    whole = isinstance(output, Tensor)
    crossed: Any = Border.apply(output if whole else output[0], made.coding)  # type: ignore[no-untyped-call]
    return crossed if whole else (crossed, *output[1:])


def encoded(tokenizer: Any, sentences: Sequence[str], tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids [n, tokens], filled up with 0, and how many of them are real [n]."""
    ids, lengths = np.zeros((len(sentences), tokens), np.int64), np.zeros(len(sentences), np.int64)
    for row, sentence in enumerate(sentences):
        own = tokenizer.encode(sentence)[:tokens]
        ids[row, : len(own)], lengths[row] = own, len(own)
    return ids, lengths


def decoder(folder: Path, sentences: Sequence[str], given: Sequence[int], targets: str, tokens: int) -> Slotted:
    """The small GPT-2 of a folder over some texts, of which the first characters are given."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids, lengths = encoded(tokenizer, [f"{text}{tokenizer.eos_token}" for text in sentences], tokens)
    labels = np.full(ids.shape, IGNORED, np.int64)
    for row, (text, count) in enumerate(zip(sentences, given, strict=True)):
        first = max(1, len(tokenizer.encode(text[:count])))
        labels[row, first - 1 : lengths[row] - 1] = ids[row, first : lengths[row]]
    return slotted(GPT2LMHeadModel.from_pretrained(folder), (ids, lengths, labels), targets, decodes=True)


def encoder(folder: Path, sentences: Sequence[str], labels: NDArray[np.int64], targets: str, tokens: int) -> Slotted:
    """The encoder of a folder over some texts with classes."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids, lengths = encoded(tokenizer, sentences, tokens)
    model: Any = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    return slotted(model, (ids, lengths, labels), targets, decodes=False)
