"""What a workload learns, by torch's autograd: the original model with the same adapters beside the same layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from tests.workloads import files
from tests.workloads.registry import WORKLOADS, Workload
from wire.manifest import Manifest, Slot

Arrays = dict[str, NDArray[Any]]
Outputs = Callable[..., torch.Tensor]
# torch keeps gates in another order than the operators: for each of torch's gates, which of the operator's it is
RECURRENT = re.compile(r"(?P<path>.+)\.(?P<layer>l\d+(?:_reverse)?)\.(?P<part>input|hidden)")
ORDERS: dict[type, tuple[int, ...]] = {nn.LSTM: (0, 2, 3, 1), nn.GRU: (1, 0, 2), nn.RNN: (0,)}


@dataclass(frozen=True)
class Trained:
    """A workload that is exported to be trained.

    Attributes:
        workload: what is exported.
        batch: items of a run.
        axes: of the output, over which the mean is taken before the head.
        targets: layers that get an adapter; where every layer has one, every rule of the model is on the way.
        module: makes the original of an ONNX file.
    """

    workload: Workload
    batch: int = 2
    axes: tuple[int, ...] = ()
    targets: str = "."
    module: Callable[[], nn.Module] | None = None

    def original(self, folder: Path) -> tuple[nn.Module, Outputs]:
        """The original in float64, and how its inputs become the output that the head goes on."""
        source = self.workload.source(folder)
        if self.workload.kind == "folder":
            from transformers import AutoModel

            model = AutoModel.from_pretrained(source)
            return model.double().eval(), lambda module, fed: module(**fed).last_hidden_state
        if self.module is not None:
            made: Any = self.module()
        else:
            path, _, factory = source.rpartition(":")
            made = run_path(path)[factory]()
        module = getattr(made, "module", made)

        def outputs(given: Any, fed: Mapping[str, torch.Tensor]) -> torch.Tensor:
            found = given(**_with_states(made, fed))
            first: torch.Tensor = found[0] if isinstance(found, tuple) else found
            return first

        return module.double().eval(), outputs


def _with_states(made: Any, fed: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Zeros for what a cell carries from run to run."""
    states, batch = getattr(made, "states", {}), len(next(iter(fed.values())))
    names = [name for name in ("current", *states) if name not in fed]
    widths = dict(zip(("current", *states), getattr(made, "inputs", ()), strict=False))
    return {**fed, **{n: torch.zeros(batch, *widths[n].shape[1:], dtype=torch.float64) for n in names if n in states}}


def _named(name: str) -> Workload:
    return next(workload for workload in WORKLOADS if workload.name == name)


TOKENS, PIXELS = (1,), (2, 3)
TRAINED = (
    Trained(_named("bert"), axes=TOKENS),
    Trained(_named("vit"), axes=TOKENS),
    Trained(_named("swin"), axes=TOKENS),
    Trained(_named("resnet-100"), axes=PIXELS),
    Trained(_named("mobilenet"), axes=PIXELS),
    Trained(_named("convnextv2"), axes=PIXELS),
    Trained(_named("unet"), axes=PIXELS),
    Trained(_named("audio"), targets="blocks|inner|scores"),
    Trained(_named("spiking")),
    Trained(Workload("recurrent", "module")),
    Trained(_named("graphsage"), batch=files.NODES, module=files.sage),
)


@dataclass
class Adapted:
    """An adapter beside the original: leaves by graph input, and changes of parameters where no module is to hook."""

    leaves: dict[str, torch.Tensor] = field(default_factory=dict)
    changes: dict[str, torch.Tensor] = field(default_factory=dict)


def by_torch(trained: Trained, folder: Path, manifest: Manifest, shared: Arrays, fed: Arrays) -> tuple[float, Arrays]:
    """Loss and gradients of adapters by autograd in float64.

    Args:
        trained: what it is.
        folder: where its source is built.
        manifest: names slots and head.
        shared: adapters and head by graph input.
        fed: one run, with labels and weights.
    """
    model, outputs = trained.original(folder)
    adapted = Adapted()
    for slot in manifest.slots:
        _adapt(model, slot, shared, adapted)
    given = {n: torch.tensor(a).double() if a.dtype == np.float32 else torch.tensor(a) for n, a in fed.items()}
    labels, weights = given.pop("labels"), given.pop("weights")
    own = dict(model.named_parameters())
    changed = {name: own[name] + change for name, change in adapted.changes.items()}
    hidden = outputs(lambda **fed: functional_call(model, changed, (), fed), given)
    logits = _logits(_pooled(hidden, given, trained.axes), manifest, shared, adapted)
    each = functional.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
    loss = (each * weights).sum()
    loss.backward()
    gradients = {n: np.zeros(v.shape) if v.grad is None else v.grad.numpy() for n, v in adapted.leaves.items()}
    return loss.item(), gradients


def _pooled(hidden: torch.Tensor, fed: Mapping[str, torch.Tensor], axes: tuple[int, ...]) -> torch.Tensor:
    if "attention_mask" in fed:
        mask = fed["attention_mask"].double()[..., None]
        marked: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return marked
    return hidden.mean(axes) if axes else hidden


def _logits(pooled: torch.Tensor, manifest: Manifest, shared: Arrays, adapted: Adapted) -> torch.Tensor:
    head = manifest.head
    assert head is not None
    weight, bias = (torch.tensor(shared[name]).double().requires_grad_() for name in (head.weight, head.bias))
    adapted.leaves |= {head.weight: weight, head.bias: bias}
    features: torch.Tensor = functional.normalize(pooled, dim=1) * pooled.shape[1] ** 0.5
    return features @ weight + bias


def _adapt(model: nn.Module, slot: Slot, shared: Arrays, adapted: Adapted) -> None:
    """A hook on a layer, or a change of a recurrent layer's parameter."""
    names = (slot.a, slot.b) if slot.kind == "lora" else (slot.bias,)
    learned = [torch.tensor(shared[name]).double().requires_grad_() for name in names]
    adapted.leaves |= dict(zip(names, learned, strict=True))
    change = learned[0]
    if slot.kind == "lora":
        change = float(shared[slot.scale]) * (learned[0] @ learned[1]).T  # [out, in]
    inside = RECURRENT.fullmatch(slot.module)
    if inside is not None:
        _adapt_recurrent(model, inside, change, adapted)
        return
    layer, read = _layers(model, slot.module)
    given: list[torch.Tensor] = []
    read.register_forward_pre_hook(lambda _, inputs: given.__setitem__(slice(None), inputs))
    layer.register_forward_hook(lambda _, __, y: y + _change(read, given[0], y, change))


def _layers(model: nn.Module, path: str) -> tuple[nn.Module, nn.Module]:
    """The module behind which a slot lies, and the one whose input and weight it has.

    Exporters fold a normalisation into the convolution before it: the slot is beside what came of both. And they name a
    sequence that is called before its members, which are named with it: `layer.layer.0` is `layer.0`.
    """
    names = {name for name, _ in model.named_modules()}
    path = path if path in names else re.sub(r"\b(\w+)\.(?=\1\.\d)", "", path)
    front, _, last = path.rpartition(".")
    if isinstance(model.get_submodule(path), nn.BatchNorm2d):
        return model.get_submodule(path), model.get_submodule(f"{front}.{int(last) - 1}")
    behind = f"{front}.normalization"
    return model.get_submodule(behind if behind in names else path), model.get_submodule(path)


def _change(layer: Any, x: torch.Tensor, y: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """What an adapter adds to y = layer(x)."""
    if change.dim() == 1:
        return change if isinstance(layer, nn.Linear) else change.view(-1, *[1] * (y.dim() - 2))
    if isinstance(layer, nn.Linear):
        return x @ change.T
    made: torch.Tensor = layer._conv_forward(x, change.reshape(layer.weight.shape), None)
    return made


def _adapt_recurrent(model: nn.Module, inside: re.Match[str], change: torch.Tensor, adapted: Adapted) -> None:
    """`lstm.l1_reverse.hidden` is weight_hh_l1_reverse, or bias_hh_l1_reverse; gates change places."""
    order = ORDERS[type(model.get_submodule(inside["path"]))]
    gates = change.chunk(len(order))
    what = ("weight" if change.dim() == 2 else "bias", "ih" if inside["part"] == "input" else "hh", inside["layer"])
    adapted.changes[f"{inside['path']}.{'_'.join(what)}"] = torch.cat([gates[k] for k in order])
