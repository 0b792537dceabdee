"""From a folder of WAV files to an adapter: export, check, train and label, by the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgequilt
from tests.edge.data.waves import write_wave

NET = '''
"""A net that takes a quarter of a second at 8 kHz."""
import torch
from torch import nn


class Net(nn.Module):
    """Bands of a strided convolution, their power, its mean over time, a layer."""

    sampling_rate = 8000
    example_inputs = {"samples": torch.zeros(2, 2000)}

    def __init__(self):
        super().__init__()
        self.bands, self.out = nn.Conv1d(1, 24, 64, stride=16), nn.Linear(24, 16)

    def forward(self, samples):
        power = self.bands(samples.unsqueeze(1)).square().mean(dim=2)
        return torch.relu(self.out(torch.log(power + 1e-3)))


def net():
    torch.manual_seed(0)
    return Net()
'''
TONES = {"low": 200, "middle": 700, "high": 1900}


def folder_of_tones(folder: Path, count: int) -> Path:
    """Noisy tones of three pitches at three rates, of two widths, in one and in two channels, longer and shorter."""
    random = np.random.default_rng(0)
    for label, pitch in TONES.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            rate, channels = (8000, 44100, 16000)[i % 3], 1 + i % 2
            frames = int(rate * random.uniform(0.2, 0.4))
            tone = 0.4 * np.sin(np.arange(frames) * 2 * np.pi * pitch * random.uniform(0.9, 1.1) / rate)
            noisy = tone[:, None] + 0.03 * random.standard_normal((frames, channels))
            write_wave(folder / label / f"{i}.wav", noisy, rate, (16, 24)[i % 2])
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What a verb prints with --json."""
    assert edgequilt.main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.heavy
def test_a_net_learns_from_a_folder_of_sounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head learned from tones of mixed formats knows the pitch of sounds that it has not heard."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "labels.txt").write_text("\n".join(TONES))
    sounds, board = folder_of_tones(tmp_path / "sounds", 24), tmp_path / "out" / "board"
    options = ("--budget", "200MiB", "--labels", tmp_path / "labels.txt", "--mode", "train", "--quant", "fp32")
    command(capsys, "export", f"{tmp_path / 'net.py'}:net", *options, "--out", tmp_path / "out")

    seen = command(capsys, "data", "check", sounds, "--bundle", board, "--kept-back", 0.3)
    asked = ("--trainer", "ridge", "--kept-back", 0.3, "--out", tmp_path / "adapter")
    command(capsys, "train", board, "--data", sounds, *asked)

    assert (seen["format"], seen["rows"], seen["samples"]["rate"]) == ("WAV folder", 72, 8000)
    assert set(seen["samples"]["rates"].values()) == {24}
    right = 0
    for i, (label, pitch) in enumerate(TONES.items()):
        for k in range(4):
            tone = 0.4 * np.sin(np.arange(12_000) * 2 * np.pi * pitch * (0.92 + 0.05 * k) / 32_000)
            path = write_wave(tmp_path / f"{i}{k}.wav", tone, 32_000)
            found = command(capsys, "run", board, "--input", path, "--adapter", tmp_path / "adapter")
            right += found["labels"][0]["label"] == label
    assert right >= 11
