"""A small transformer block in torch, with LoRA, and its export with slots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH, LENGTH, WIDTH, HEADS, INNER, CLASSES = 3, 6, 12, 3, 20, 4

Adapters = Mapping[str, Tensor]


class Block(nn.Module):
    """Attention with a padding mask of -inf, GELU, two layer normalizations, a classifier on their mean."""

    def __init__(self, *, guarded: bool) -> None:
        super().__init__()
        self.guarded = guarded
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():  # ones and zeros would hide a lost term
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor, mask: Tensor, adapters: Adapters | None = None) -> Tensor:
        """x `[N, S, WIDTH]`, mask bool `[N, S]`; logits `[N, CLASSES]` of the mean over unmasked rows."""
        query, key, value = (
            self.adapted(name, x, adapters).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = self.attention(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5, mask) @ value
        x = self.first(x + self.out(mixed.transpose(1, 2).flatten(2)))
        x = self.second(x + self.down(functional.gelu(self.up(x))))
        real = mask[:, :, None].to(x.dtype)
        logits: Tensor = self.head((x * real).sum(1) / real.sum(1).clamp(min=1.0))
        return logits

    def attention(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Softmax over unmasked pairs, zeros in rows without any: what a padded row asks for is never used."""
        pairs = mask[:, None, None, :] & mask[:, None, :, None]
        if self.guarded:  # as optimum exports it: NaN in rows that are masked as a whole, replaced afterwards
            spread = torch.softmax(scores.masked_fill(~pairs, -torch.inf), -1)
            return torch.where(torch.isnan(spread), 0.0, spread)
        # The same without NaN, for autograd, which would multiply it by zero.
        some = pairs.any(-1, keepdim=True)
        return torch.softmax(scores.masked_fill(~pairs & some, -torch.inf), -1) * some

    def adapted(self, name: str, x: Tensor, adapters: Adapters | None) -> Tensor:
        """One projection, with `scale (x A) B` beside it where the adapters have it."""
        y: Tensor = getattr(self, name)(x)
        if adapters is None or f"{name}.A" not in adapters:
            return y
        return y + adapters[f"{name}.scale"] * (x @ adapters[f"{name}.A"] @ adapters[f"{name}.B"])


def export(block: Block) -> ir.Model:
    """The block as torch exports it, at opset 20 and a fixed shape, without slots."""
    x, mask = torch.zeros(BATCH, LENGTH, WIDTH), torch.ones(BATCH, LENGTH, dtype=torch.bool)
    program = torch.onnx.export(block.eval(), (x, mask), dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    model: ir.Model = ir.from_proto(program.model_proto)
    model.graph.outputs[0].name = "logits"
    return model


def add_slot(model: ir.Model, output: str, name: str, symbol: str) -> None:
    """Beside the MatMul that makes `output`, `scale (flat(x) A) B` with rank-0 defaults for A and B."""
    graph = model.graph
    node = next(node for node in graph if node.outputs[0].name == output)
    source, weight = node.inputs
    assert source is not None
    assert weight is not None
    assert weight.shape is not None
    assert node.outputs[0].shape is not None
    width, columns = weight.shape.numpy()
    shape = node.outputs[0].shape.numpy()
    a = _adapter(graph, f"{name}.A", [width, symbol], np.zeros((width, 0)))
    b = _adapter(graph, f"{name}.B", [symbol, columns], np.zeros((0, columns)))
    scale = _adapter(graph, f"{name}.scale", [], np.ones(()))
    flat = ir.val(f"{name}.flat", const_value=ir.tensor(np.array([-1, width])))
    deep = ir.val(f"{name}.deep", const_value=ir.tensor(np.array(shape)))
    graph.register_initializer(flat)
    graph.register_initializer(deep)
    rows = ir.node("Reshape", [source, flat], name=f"{name}/rows")
    down = ir.node("MatMul", [rows.outputs[0], a], name=f"{name}/down")
    up = ir.node("MatMul", [down.outputs[0], b], name=f"{name}/up")
    scaled = ir.node("Mul", [up.outputs[0], scale], name=f"{name}/scaled")
    back = ir.node("Reshape", [scaled.outputs[0], deep], name=f"{name}/back")
    total = ir.node("Add", [node.outputs[0], back.outputs[0]], name=f"{name}/sum")
    node.outputs[0].replace_all_uses_with(total.outputs[0])
    total.replace_input_with(0, node.outputs[0])
    graph.insert_after(node, [rows, down, up, scaled, back, total])


def _adapter(graph: ir.Graph, name: str, dims: list[int | str], default: npt.NDArray[np.float64]) -> ir.Value:
    value = ir.val(name, ir.DataType.FLOAT, dims)
    value.const_value = ir.tensor(default.astype(np.float32), name=name)
    graph.inputs.append(value)
    graph.register_initializer(value)
    return value
