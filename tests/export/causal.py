"""Decoders as they are trained: bundles of tiny ones, and torch with the same adapters."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.build import twin
from export.gradient.present import present
from export.prepare import Prepared, Wanted, prepare
from export.stage import Key, build_stage
from tests.conftest import ROOT
from wire.adapter import Adapter
from wire.bundle import Bundle
from wire.kinds.lora import Lora
from wire.manifest import Manifest

SEQUENCE, BATCH = 12, 2
Arrays = dict[str, NDArray[Any]]
Runs = Callable[[Bundle, Arrays, Arrays], tuple[float, Arrays]]

FLOOR = """
import sys
import numpy as np
from pathlib import Path
from edge.chain import Chain
from wire.bundle import open_bundle
bundle = open_bundle(Path(sys.argv[1]), None)
given = dict(np.load(sys.argv[2]))
fed = {n: given.pop(n) for n in ("input_ids", "attention_mask", "position_ids", "labels", "weights")}
sums = Chain(bundle).gradients([fed], bundle.manifest.buckets[0].name, given)
np.savez(sys.argv[3], loss=sums.loss, **sums.by_input)
"""


def trainable(folder: Path, work: Path, quant: str = "fp32", **asked: Any) -> Prepared:
    """A decoder on its way to a bundle that trains, with factors and biases beside its attention."""
    wanted = {"sequence": SEQUENCE, "kinds": ("lora", "bias"), "targets": "attn", **asked}
    return prepare(Wanted(str(folder), "text-generation", **wanted), (quant,), ("train",), work)


def drawn_adapter(manifest: Manifest, rank: int = 3, seed: int = 5) -> Adapter:
    """Factors and biases that are all different from zero."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.2, shape).astype(np.float32)

    lora = {s.name: Lora(draw(s.features_in, rank), draw(rank, s.features_out), 1.5) for s in manifest.slots_of("lora")}
    return Adapter(manifest.model.id, "", lora, bias={s.name: draw(s.features_out) for s in manifest.slots_of("bias")})


def drawn_batch(side: str, vocabulary: int, seed: int = 3) -> Arrays:
    """Two rows, one of 7 tokens filled up on a side, the first tokens of the other not to be learned; drawn weights."""
    rng = np.random.default_rng(seed)
    mask = np.ones((BATCH, SEQUENCE), np.int64)
    mask[0, 7:] = 0
    mask = mask[:, ::-1].copy() if side == "left" else mask
    ids = rng.integers(1, vocabulary, mask.shape) * mask
    labels = np.full(ids.shape, -100, np.int64)
    labels[:, :-1] = np.where(mask[:, 1:] * mask[:, :-1] > 0, ids[:, 1:], -100)
    labels[1, :4] = -100
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": np.maximum(mask.cumsum(axis=1) - 1, 0),
        "labels": labels.ravel(),
        "weights": rng.uniform(0.5, 1.5, labels.size).astype(np.float32),
    }


def adapted(model: torch.nn.Module, manifest: Manifest, adapter: Adapter) -> dict[str, torch.Tensor]:
    """Put an adapter beside a model's layers by hooks; its arrays by graph input, to ask for gradients of."""
    leaves: dict[str, torch.Tensor] = {}

    def leaf(name: str, value: NDArray[np.float32]) -> torch.Tensor:
        leaves[name] = torch.tensor(value, dtype=next(model.parameters()).dtype, requires_grad=True)
        return leaves[name]

    for slot in manifest.slots:
        if slot.kind == "lora":
            lora = adapter.lora[slot.name]
            a, b, scale = leaf(slot.a, lora.a), leaf(slot.b, lora.b), lora.scale
            hook: Any = lambda _, given, y, a=a, b=b, scale=scale: y + scale * (given[0] @ a @ b)  # noqa: E731  # one per slot
        else:
            delta = leaf(slot.bias, adapter.bias[slot.name])
            hook = lambda _, given, y, delta=delta: y + delta  # noqa: E731  # one per slot
        model.get_submodule(slot.module).register_forward_hook(hook)
    return leaves


def by_torch(
    folder: Path, manifest: Manifest, adapter: Adapter, fed: Mapping[str, Any], weights: Mapping[str, Any] | None = None
) -> tuple[float, Arrays]:
    """Weighted next-token loss and its gradients by autograd in float64; `weights` replace the model's own."""
    model = decoder(folder, weights)
    leaves = adapted(model, manifest, adapter)
    names = ("input_ids", "attention_mask", "position_ids")
    logits = model(**{name: torch.tensor(fed[name]) for name in names}).logits
    labels, each = torch.tensor(fed["labels"]), torch.tensor(fed["weights"], dtype=torch.float64)
    counts = labels >= 0  # rows that only fill up must have no say: their scores are absorbed by the mask
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1)[counts], labels[counts], reduction="none")
    loss = (losses * each[counts]).sum()
    loss.backward()
    return loss.item(), {name: value.grad.numpy() for name, value in leaves.items() if value.grad is not None}


def decoder(folder: Path, weights: Mapping[str, Any] | None = None) -> Any:
    """The model of a folder in float64, perhaps with other weights by module path."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").double().eval()
    with torch.no_grad():
        for module, value in (weights or {}).items():
            model.get_submodule(module).weight.copy_(torch.tensor(np.asarray(value, np.float64)))
    return model


def on(python: Path, work: Path) -> Runs:
    """Loss and gradients of a bundle by the runtime of another interpreter; files between the two lie in `work`."""

    def run(found: Bundle, fed: Arrays, given: Arrays) -> tuple[float, Arrays]:
        work.mkdir(exist_ok=True)
        asked, answered = work / "asked.npz", work / "answered.npz"
        np.savez(asked, allow_pickle=False, **fed, **given)
        subprocess.run([python, "-c", FLOOR, found.folder, asked, answered], cwd=ROOT, check=True, timeout=200)
        got = dict(np.load(answered))
        return float(got.pop("loss")), got

    return run


def worst(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest difference of gradients, each relative to the largest entry of its array."""
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[n] - g).max() / np.abs(g).max()) for n, g in expected.items())


def restored_weights(prepared: Prepared, quant: str, folder: Path) -> dict[str, NDArray[Any]]:
    """What numpy restores of every weight of two dimensions, as torch's layers of Llama hold it, by module path."""
    (piece,) = build_stage(prepared, Key("train", quant, BATCH, ()), folder).pieces
    kind = "forward"
    model = twin(piece.exact[kind], piece.shipped[kind], piece.reports[kind], prepared.stock.grid)
    found: dict[str, list[NDArray[Any]]] = {}
    reports = sorted(piece.reports[kind], key=lambda report: report.name)  # the order of a graph's weights is not given
    for report in (r for r in reports if r.format != "fp32"):
        module = prepared.captured.modules.get(report.name, report.name.removesuffix(".weight"))
        value = present(model.graph.initializers[report.name].const_value).numpy()
        found.setdefault(module, []).append(value if module.endswith("embed_tokens") else value.T)
    return {module: np.concatenate(parts) for module, parts in found.items()}
