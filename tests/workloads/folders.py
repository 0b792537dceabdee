"""Hugging Face folders as `save_pretrained` writes them, with small configurations and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.workloads.draw import draw
from tests.workloads.tokens import byte_tokenizer, word_tokenizer

POSITIONS = 96  # tokens that a text model has places for


def bert(folder: Path) -> None:
    """Six linear layers per block, and a table that is half of its weights."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=16000,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=1024,
        max_position_embeddings=POSITIONS,
    )
    _save(BertModel(config), folder, seed=1)
    word_tokenizer(folder, config.vocab_size, POSITIONS)


def gpt2(folder: Path) -> None:
    """Learned positions, fused query, key and value, a head tied to the table."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=8000,
        n_embd=256,
        n_layer=6,
        n_head=8,
        n_inner=1024,
        n_positions=POSITIONS,
        bos_token_id=0,
        eos_token_id=0,
    )
    _save(GPT2LMHeadModel(config), folder, seed=2)
    byte_tokenizer(folder, config.vocab_size, POSITIONS)


def llama(folder: Path) -> None:
    """Rotary positions, grouped queries, a head of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8000,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=688,
        max_position_embeddings=POSITIONS,
        bos_token_id=0,
        eos_token_id=0,
    )
    _save(LlamaForCausalLM(config), folder, seed=3)
    byte_tokenizer(folder, config.vocab_size, POSITIONS)


def qwen3(folder: Path) -> None:
    """Heads wider than hidden / heads, normalised queries and keys, a tied head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=12000,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=48,
        intermediate_size=688,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    _save(Qwen3ForCausalLM(config), folder, seed=4)
    byte_tokenizer(folder, config.vocab_size, POSITIONS)


def t5(folder: Path) -> None:
    """An encoder and a decoder with relative positions and gated units."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=8000,
        d_model=256,
        d_kv=48,
        d_ff=640,
        num_layers=4,
        num_decoder_layers=3,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        pad_token_id=1,
        eos_token_id=0,
        decoder_start_token_id=1,
    )
    model = T5ForConditionalGeneration(config)
    _save(model, folder, seed=5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".q.weight"):
                parameter.mul_(config.d_kv**-0.5)  # T5 does not scale scores: its queries are drawn that much smaller
    model.save_pretrained(folder)
    byte_tokenizer(folder, config.vocab_size, POSITIONS)


def vit(folder: Path) -> None:
    """Patches of 8, a class token."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=320, num_hidden_layers=6, num_attention_heads=5, intermediate_size=1280, image_size=64, patch_size=8
    )
    _save(ViTModel(config), folder, seed=6)
    _pictures(folder, "ViTImageProcessor", 64)


def swin(folder: Path) -> None:
    """Windows that are rolled by half: slices and concatenations inside every second block."""
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(
        image_size=64, patch_size=4, embed_dim=96, depths=[2, 2, 4], num_heads=[3, 6, 12], window_size=4
    )
    _save(SwinModel(config), folder, seed=7)
    _pictures(folder, "ViTImageProcessor", 64)


def resnet(folder: Path, size: int) -> None:
    """Bottleneck blocks; at 100 and 150 pixels strides meet odd sizes."""
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=64, hidden_sizes=[128, 256, 512, 1024], depths=[1, 1, 2, 4])
    _save(ResNetModel(config), folder, seed=8)
    _pictures(folder, "ConvNextImageProcessor", size, size={"shortest_edge": size})


def mobilenet(folder: Path) -> None:
    """Depthwise kernels, inverted bottlenecks, clipped activations."""
    from transformers import MobileNetV2Config, MobileNetV2Model

    config = MobileNetV2Config(image_size=96, depth_multiplier=2.0)
    _save(MobileNetV2Model(config), folder, seed=9)
    _pictures(folder, "MobileNetV2ImageProcessor", 96, size={"shortest_edge": 110}, do_center_crop=True)


def convnextv2(folder: Path) -> None:
    """Kernels of 7 by 7 and global response normalization."""
    from transformers import ConvNextV2Config, ConvNextV2Model

    config = ConvNextV2Config(image_size=64, hidden_sizes=[64, 128, 256, 512], depths=[1, 1, 3, 2])
    _save(ConvNextV2Model(config), folder, seed=10)
    _pictures(folder, "ConvNextImageProcessor", 64, size={"shortest_edge": 64})


def _save(model: Any, folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw(model, seed)
    model.save_pretrained(folder)


def _pictures(folder: Path, processor: str, pixels: int, **others: Any) -> None:
    described = {
        "image_processor_type": processor,
        "do_resize": True,
        "size": {"height": pixels, "width": pixels},
        "crop_size": {"height": pixels, "width": pixels},
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.25, 0.2],
        **others,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(described), encoding="utf-8")
