"""Adapters as Hugging Face PEFT has them: a folder of `adapter_config.json` and `adapter_model.safetensors`.

PEFT keeps the transposes, lora_A.weight [r, in] and lora_B.weight [out, r] ([r, C, kh, kw] and [out, r, 1, 1] of a
convolution), and multiplies by alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski, arXiv 2312.03732): so
alpha = scale r. Ranks and scales that differ from slot to slot go into `rank_pattern` and `alpha_pattern`.

A linear head is none of PEFT's business: `head.safetensors` holds `weight` [classes, features] and `bias` [classes]
as torch's Linear has them, `labels.json` the names of the classes. Biases have no place at all.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from console.errors import BadData, join
from wire.json_text import parse_json
from wire.kinds.head import Head
from wire.kinds.lora import Lora, peft_names

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEAD, LABELS = "head.safetensors", "labels.json"
FACTOR = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.\w+)?\.weight")
LARGEST_ALPHA = 1e30
# what changes the sum beyond A and B, with the value that does not
PLAIN = {"use_dora": False, "lora_bias": False, "bias": "none", "modules_to_save": None, "use_qalora": False}

Tensors = dict[str, NDArray[Any]]


class Place(Protocol):
    """What of a slot PEFT must know; manifests and hubs have their own."""

    @property
    def name(self) -> str:
        """Of the slot."""

    @property
    def module(self) -> str:
        """Its path in the original model."""

    @property
    def features_in(self) -> int:
        """Rows of A."""

    @property
    def features_out(self) -> int:
        """Columns of B."""

    @property
    def window(self) -> tuple[int, ...]:
        """Channels per group and kernel of a convolution; empty for a linear layer."""

    @property
    def groups(self) -> int:
        """Of a convolution."""


def files_of(
    slots: Iterable[Place],
    lora: Mapping[str, Lora],
    base: str,
    head: Head | None = None,
    labels: Sequence[str] = (),
) -> dict[str, bytes]:
    """The files of a PEFT folder by name; the configuration last.

    Args:
        slots: of the model.
        lora: factors by slot; slots without any, or of rank 0, are left out.
        base: what PEFT is told that the adapter belongs to.
        head: written beside if there is one.
        labels: its classes.

    Raises:
        BadData: nothing is left, or a slot has no counterpart in PEFT.
    """
    used = [slot for slot in slots if slot.name in lora and lora[slot.name].rank]
    grouped = [slot.module for slot in used if slot.groups > 1]
    if grouped:
        raise BadData(
            f"expected slots that PEFT has too, found the grouped convolution {join(grouped)}, whose LoRA PEFT defines "
            "otherwise; choose other targets"
        )
    if not used:
        raise BadData("expected LoRA factors of rank 1 or more to write, found none; PEFT has no place for other kinds")
    tensors: Tensors = {}
    for slot in used:
        a, b = peft_names(slot.module)
        tensors[a], tensors[b] = _turned(slot, lora[slot.name])
    out = {WEIGHTS: save(tensors, {"format": "pt"})}
    if head is not None:
        out[HEAD] = save({"weight": np.ascontiguousarray(head.weight.T), "bias": head.bias}, {"format": "pt"})
        out[LABELS] = json.dumps(list(labels), ensure_ascii=False).encode() + b"\n"
    out[CONFIG] = json.dumps(_config({slot.module: lora[slot.name] for slot in used}, base), indent=2).encode() + b"\n"
    return out


def _turned(slot: Place, factors: Lora) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    a, b = np.ascontiguousarray(factors.a.T), np.ascontiguousarray(factors.b.T)
    if not slot.window:
        return a, b
    return a.reshape(len(a), *slot.window), b.reshape(*b.shape, *[1] * (len(slot.window) - 1))


def _config(factors: Mapping[str, Lora], base: str) -> dict[str, Any]:
    ranks = {module: lora.rank for module, lora in factors.items()}
    alphas = {module: _whole(lora.scale * lora.rank) for module, lora in factors.items()}
    rank, alpha = (Counter(each.values()).most_common(1)[0][0] for each in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: r for module, r in ranks.items() if r != rank},
        "alpha_pattern": {module: a for module, a in alphas.items() if a != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "target_modules": list(factors),
    }


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def read_peft(folder: Path, slots: Sequence[Place]) -> dict[str, Lora]:
    """LoRA factors by slot, of a folder that PEFT wrote.

    A module of PEFT's belongs to the slot whose module path it ends with: PEFT's begins at the model with its task.

    Raises:
        BadData: it is not such a folder, or does more than LoRA, or names modules without a slot; all at once.
    """
    config, tensors = _read(folder)
    problems = [
        f"{name} is {_said(config[name])}"
        for name, plain in PLAIN.items()
        if config.get(name, plain) not in (plain, [])
    ]
    if config.get("peft_type") != "LORA":
        problems.append(f"peft_type is {repr(config.get('peft_type'))[:80]}")
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        problems.append(f"alpha_pattern is a {type(patterns).__name__}")
        patterns = {}
    problems += [f"the pattern {p[:80]!r} is none of a module's name" for p in patterns if not _is_tame(p)]
    alphas = [config.get("lora_alpha", 8), *patterns.values()]
    problems += [
        f"alpha is {_said(alpha)}"
        for alpha in alphas
        if not isinstance(alpha, (int, float)) or not abs(alpha) < LARGEST_ALPHA
    ]
    if problems:
        raise BadData(f"expected a plain LoRA in {folder}, but {join(problems)}; convert it with PEFT first")
    parts: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        match = FACTOR.fullmatch(name)
        if match is None:
            problems.append(f"{name} is no factor")
        else:
            parts.setdefault(match["module"], {})[match["part"]] = tensor
    out: dict[str, Lora] = {}
    for module, pair in parts.items():
        slot = _slot(module, slots)
        if slot is None:
            problems.append(f"the model has no slot for {module}")
            continue
        problem = _unfit(slot, pair)
        if problem:
            problems.append(f"{module} {problem}")
            continue
        rank = len(pair["A"])
        a, b = (np.ascontiguousarray(pair[p].reshape(len(pair[p]), -1).T, np.float32) for p in "AB")
        out[slot.name] = Lora(a, b, _scale(config, module, rank))
    if problems:
        raise BadData(f"expected a plain LoRA of this model in {folder}, but {join(problems)}")
    return out


def read_head(folder: Path, labels: Sequence[str]) -> Head | None:
    """The head that lies beside a PEFT adapter, as `files_of` writes it; None if there is none.

    Raises:
        BadData: it is not one, or belongs to other classes.
    """
    if not (folder / HEAD).exists():
        return None
    try:
        tensors: Tensors = load((folder / HEAD).read_bytes())
        weight, bias = tensors["weight"], tensors["bias"]
        named = parse_json((folder / LABELS).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadData(
            f"expected weight and bias in {folder / HEAD} and names of classes in {LABELS}, found something else "
            f"({error}); take the file away to go without a head"
        ) from error
    if named != list(labels):
        raise BadData(f"expected the classes {', '.join(labels)} in {folder / LABELS}, found {str(named)[:200]}")
    finite = all(t.dtype.kind == "f" and np.isfinite(t).all() for t in (weight, bias))
    if not finite or weight.ndim != 2 or bias.shape != weight.shape[:1] or len(bias) != len(labels):
        raise BadData(f"expected a finite weight [classes, features] and bias [classes] in {folder / HEAD}")
    return Head(np.ascontiguousarray(weight.T, np.float32), np.ascontiguousarray(bias, np.float32))


def _read(folder: Path) -> tuple[dict[str, Any], Tensors]:
    try:
        config = parse_json((folder / CONFIG).read_bytes())
        tensors: Tensors = load((folder / WEIGHTS).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadData(
            f"expected {CONFIG} and {WEIGHTS} in {folder}, found something else ({error}); save the adapter with "
            "save_pretrained(safe_serialization=True)"
        ) from error
    if not isinstance(config, dict):
        raise BadData(f"expected a JSON object in {folder / CONFIG}, found a {type(config).__name__}")
    return config, tensors


def _slot(module: str, slots: Sequence[Place]) -> Place | None:
    fitting = [slot for slot in slots if module == slot.module or module.endswith(f".{slot.module}")]
    return max(fitting, key=lambda slot: len(slot.module), default=None)


def _unfit(slot: Place, pair: Tensors) -> str:
    """Why two tensors are not the factors of a slot; empty if they are."""
    if len(pair) < 2:
        return f"has lora_{next(iter(pair))} only"
    if slot.groups > 1:
        return "is a grouped convolution, whose LoRA PEFT defines otherwise"
    a, b = pair["A"], pair["B"]
    shape_a = slot.window or (slot.features_in,)
    shape_b = (slot.features_out, a.shape[0], *[1] * (len(slot.window) - 1 if slot.window else 0))
    if a.dtype.kind != "f" or b.dtype.kind != "f" or a.shape[1:] != shape_a or b.shape != shape_b:
        return f"needs [r, {', '.join(map(str, shape_a))}] and {list(shape_b)}, not {list(a.shape)} and {list(b.shape)}"
    return "" if np.isfinite(a).all() and np.isfinite(b).all() else "is not finite"


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _said(value: object) -> str:
    """A value of a stranger's file in a sentence."""
    return repr(value)[:80]


def _is_tame(pattern: str) -> bool:
    r"""Whether a pattern of a stranger is tried at all: Python's matching may take longer than the world will last.

    >>> _is_tame(r"model.layers.\d+.q_proj"), _is_tame(r"(a+)+b")
    (True, False)
    """
    return len(pattern) <= 200 and len(re.findall(r"[*+{]", pattern)) <= 2 and not re.search(r"\)[*+?{]", pattern)


def _pattern(patterns: Any, module: str, otherwise: Any) -> Any:
    """The value of the first pattern that a module path ends with, as PEFT matches them."""
    for pattern, value in (patterns or {}).items():
        with suppress(re.error):
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
                return value
    return otherwise
