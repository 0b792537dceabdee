"""all-MiniLM-L6-v2 in torch with a LoRA of its own at query and value of the upper blocks for each of many models.

Blocks below the adapters run once per sentence and are kept; what many models share is one product.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bench.learning.pack import WORDS, Pack

SIDE, HEADS, BLOCKS, LOWER, EPSILON = 384, 12, 6, 3, 1e-12
SLOTS = tuple(f"layer.{block}.{name}" for block in range(LOWER, BLOCKS) for name in ("query", "value"))
SCALE = 2.0  # of every rank


class Trunk:
    """The encoder's weights on a device, in float32."""

    def __init__(self, pack: Pack, device: str) -> None:
        given = {name.removeprefix("weights/"): own for name, own in pack.arrays.items() if name.startswith("weights/")}
        self.device = torch.device(device)
        self.weights = {name: torch.from_numpy(own).to(self.device, torch.float32) for name, own in given.items()}

    def lower(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states below the adapters, [n, tokens, 384], of ids [n, tokens]."""
        w, tokens = self.weights, ids.shape[1]
        hidden = functional.embedding(ids, w[WORDS]) + w["embeddings.token_type_embeddings.weight"][0]
        hidden = self._norm(hidden + w["embeddings.position_embeddings.weight"][:tokens], "embeddings.LayerNorm")
        for block in range(LOWER):
            hidden = self._block(hidden[None], lengths[None], block, None)[0]
        return hidden

    def upper(self, hidden: Tensor, lengths: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Features of sentences in each model: their mean over real tokens, of length sqrt(384).

        Args:
            hidden: [models, n, tokens, 384], of `lower`.
            lengths: [models, n], real tokens.
            a: [models, slots, 384, r].
            b: [models, slots, r, 384].

        Returns:
            [models, n, 384].
        """
        for block in range(LOWER, BLOCKS):
            at = 2 * (block - LOWER)
            pairs = [(a[:, at + i], b[:, at + i]) for i in range(2)]
            hidden = self._block(hidden, lengths, block, pairs)
        real = torch.arange(hidden.shape[2], device=self.device) < lengths[..., None]
        mean = (hidden * real[..., None]).sum(2) / lengths[..., None]
        return functional.normalize(mean, dim=-1) * float(SIDE**0.5)

    def _block(self, x: Tensor, lengths: Tensor, block: int, pairs: list[tuple[Tensor, Tensor]] | None) -> Tensor:
        at = f"encoder.layer.{block}"
        models, n, tokens, _ = x.shape
        real = (torch.arange(tokens, device=self.device) < lengths[..., None]).reshape(models * n, 1, 1, tokens)
        parts = [self._linear(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value")]
        for i, (a, b) in zip((0, 2), pairs or (), strict=False):
            flat = torch.bmm(torch.bmm(x.reshape(models, n * tokens, SIDE), a), b)
            parts[i] = parts[i] + SCALE * flat.reshape(x.shape)
        q, k, v = (p.reshape(models * n, tokens, HEADS, SIDE // HEADS).transpose(1, 2) for p in parts)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=real).transpose(1, 2).reshape(x.shape)
        x = self._norm(x + self._linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = functional.gelu(self._linear(x, f"{at}.intermediate.dense"))
        return self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (SIDE,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPSILON)


class Kept:
    """The hidden states of a data set's rows below the adapters, in float16, on the trunk's device."""

    def __init__(self, pack: Pack, data: str, trunk: Trunk) -> None:
        self.ids = pack.arrays[f"{data}/ids"].astype(np.int64)
        self.lengths, self.trunk = pack.arrays[f"{data}/lengths"], trunk
        self.lengths_there = torch.from_numpy(self.lengths).to(trunk.device)
        self.known = np.zeros(len(self.ids), bool)
        self.hidden = torch.zeros((*self.ids.shape, SIDE), dtype=torch.float16, device=trunk.device)

    def ensure(self, rows: NDArray[np.int64], batch: int = 512) -> None:
        """Compute what is not there yet of some rows."""
        new = np.unique(rows[~self.known[rows]])
        new = new[np.argsort(self.lengths[new], kind="stable")]
        with torch.no_grad():
            for at in range(0, len(new), batch):
                own = new[at : at + batch]
                longest = int(self.lengths[own].max())
                ids, there = (torch.from_numpy(one).to(self.trunk.device) for one in (self.ids[own, :longest], own))
                self.hidden[there, :longest] = self.trunk.lower(ids, self.lengths_there[there]).half()
        self.known[new] = True

    def rows(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Hidden states and lengths of rows [...] by index, cut to the longest among them."""
        there = torch.from_numpy(chosen).to(self.trunk.device)
        longest = int(self.lengths[chosen].max())
        return self.hidden[there, :longest].float(), self.lengths_there[there]
