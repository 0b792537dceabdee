"""A vision transformer small enough to be trained in seconds, on clean digits only.

Vision Transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) with 3 blocks of width 64 over 16 patches of 4 x 4
pixels, about 110,000 parameters. It is trained with the pooling that is deployed, so that the same features
feed the head that it brings along and the heads that boards agree on.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.cameras import SIDE, Picture
from wire.files import write_atomic

if TYPE_CHECKING:
    import torch

WIDTH = 64
CLASSES = 10
EPOCHS = 15  # 0.96 on clean test digits; 30 gave the same within the interval and took twice as long
BATCH = 64
LEARNING_RATE = 3e-3  # peak of one cycle
WEIGHT_DECAY = 0.05
HEAD_FILE = "head.npz"

CONFIG = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "image_size": SIDE,
    "patch_size": 4,
    "num_channels": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# What a board does to a picture before the model: bytes to [-1, 1].
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5],
    "image_std": [0.5],
}


def write_model(
    folder: Path, pictures: Sequence[Picture], seed: int = 0, advance: Callable[[int], None] = lambda n: None
) -> Path:
    """Train on the clean training pictures and write a model folder that the exporter can capture.

    The folder holds what `save_pretrained` writes, `preprocessor_config.json`, and `head.npz` with the head that
    was trained along: `weight` [64, 10], `bias` [10], `labels` [10]. An older folder of that name is replaced;
    an interrupted training leaves it alone.

    Args:
        folder: where to.
        pictures: those with split `"train"` are learned from.
        seed: of the weights and of the order of the pictures; the same seed on the same machine gives the same bytes.
        advance: is told the epochs that ended (15 in all).
    """
    model, weight, bias = train([picture for picture in pictures if picture.split == "train"], seed, advance)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        ready = Path(temporary) / "model"
        model.save_pretrained(ready)
        write_atomic(ready / "preprocessor_config.json", json.dumps(PREPROCESSOR, indent=2).encode())
        head = io.BytesIO()
        np.savez(head, weight=weight, bias=bias, labels=np.array([str(digit) for digit in range(CLASSES)]))
        write_atomic(ready / HEAD_FILE, head.getvalue())
        shutil.rmtree(folder, ignore_errors=True)
        ready.rename(folder)
    return folder


def train(
    pictures: Sequence[Picture], seed: int, advance: Callable[[int], None] = lambda n: None
) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Train the transformer and a linear head with AdamW and one cycle of the learning rate, on one thread.

    Returns:
        The model (a transformers `ViTModel`), and the head's weight float32 [64, 10] and bias float32 [10].
    """
    import torch
    from transformers import ViTConfig, ViTModel

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the same bytes in every run
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ViTModel(ViTConfig(**CONFIG), add_pooling_layer=False)
            head = torch.nn.Linear(WIDTH, CLASSES)
            _fit(model, head, _pixels(pictures), torch.tensor([int(p.label) for p in pictures]), advance)
    finally:
        torch.set_num_threads(threads)
    return model.eval(), head.weight.detach().numpy().T.copy(), head.bias.detach().numpy().copy()


def features(model: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """What is deployed: the mean over tokens of the last hidden state, unit length, times √width. [n, 64]."""
    import torch

    mean = model(pixel_values=pixel_values).last_hidden_state.mean(dim=1)
    return torch.nn.functional.normalize(mean, dim=-1) * float(WIDTH**0.5)


def _pixels(pictures: Sequence[Picture]) -> torch.Tensor:
    """The model's input, float32 [n, 1, 16, 16] in [-1, 1]."""
    import torch

    stacked = np.stack([picture.pixels for picture in pictures]).astype(np.float32)
    return torch.from_numpy((stacked / 255 - 0.5) / 0.5)[:, None]


def _fit(
    model: Any, head: torch.nn.Linear, pixels: torch.Tensor, labels: torch.Tensor, advance: Callable[[int], None]
) -> None:
    """Fit model and head in place; draws from torch's global generator."""
    import torch

    steps = len(labels) // BATCH
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * steps)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(labels))[: steps * BATCH].reshape(steps, BATCH):
            loss = torch.nn.functional.cross_entropy(head(features(model, pixels[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
            schedule.step()
        advance(1)
