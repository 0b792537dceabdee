"""Sounds: the header of a WAV file, samples of every width, the mix, the resampling, and the way into a model."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from console.errors import BadData
from edge.data.wav import GUID_TAIL, read_wave, sound_length
from edge.sound import read_sound, resampled
from edge.tensors import Tensors
from tests.edge.data.waves import write_wave
from wire.manifest import Bucket, Preprocess, Tensor

TONE = np.sin(np.arange(600) * 2 * np.pi / 40) * 0.8
BUCKET = Bucket("b2", 2)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_every_width_gives_the_same_tone(tmp_path: Path, bits: int) -> None:
    """PCM of every width, as Python's own writer puts it, comes back to within a step of that width."""
    path = write_wave(tmp_path / "it.wav", TONE, 8000, bits)

    found = read_sound(path, 8000, 600)

    assert np.max(np.abs(found - TONE)) < 1.5 / (1 << (bits - 1)) + 1e-6
    assert (read_wave(path).bits, read_wave(path).frames) == (bits, 600)


def test_channels_are_mixed_by_their_mean(tmp_path: Path) -> None:
    """Three channels become their mean; opposite ones are silence."""
    three = np.stack([TONE, -TONE, TONE / 2], axis=1)

    found = read_sound(write_wave(tmp_path / "it.wav", three, 8000), None, 600)

    np.testing.assert_allclose(found, TONE / 6, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    rates=st.sampled_from([(16000, 48000), (16000, 8000), (16000, 44100), (22050, 16000), (3, 2), (1, 7), (9, 4)]),
    count=st.integers(1, 900),
    seed=st.integers(0, 9),
)
def test_resampling_is_scipys(rates: tuple[int, int], count: int, seed: int) -> None:
    """Any length at any two rates gives what scipy's polyphase resampler gives in float64."""
    up, down = (rate // np.gcd(*rates) for rate in rates)
    samples = np.random.default_rng(seed).standard_normal(count).astype(np.float32)

    found = resampled(samples, int(up), int(down))

    np.testing.assert_allclose(found, signal.resample_poly(samples.astype(np.float64), up, down), atol=1e-6)


@pytest.mark.parametrize("rate", [4000, 11025, 44100])
def test_only_what_is_heard_is_read_and_it_is_the_same(tmp_path: Path, rate: int) -> None:
    """The beginning of a long file is that of the file resampled as a whole; behind a short one is silence."""
    noise = np.random.default_rng(0).uniform(-1, 1, 30_000)
    path = write_wave(tmp_path / "it.wav", noise, rate, 32)
    whole = resampled(noise.astype(np.float32), 8000 // np.gcd(8000, rate), rate // np.gcd(8000, rate))

    np.testing.assert_allclose(read_sound(path, 8000, 700), whole[:700], atol=1e-6)
    long = read_sound(path, 8000, len(whole) + 50)
    assert not long[len(whole) :].any()
    np.testing.assert_allclose(long[: len(whole)], whole, atol=1e-6)


def test_what_is_heard_may_be_normalised(tmp_path: Path) -> None:
    """Zero mean and unit variance over what is heard, and still silence behind it."""
    path = write_wave(tmp_path / "it.wav", TONE + 0.1, 8000, 32)

    found = read_sound(path, 8000, 800, normalise=True)

    np.testing.assert_allclose(found[:600], (TONE - TONE.mean()) / TONE.std(), atol=1e-5)
    assert not found[600:].any()


def header(
    form: int, bits: int, data: bytes, *, extra: bytes = b"", length: int | None = None, first: bytes = b""
) -> bytes:
    """A WAV file by hand: one channel at 8 kHz."""
    fields = struct.pack("<HHIIHH", form, 1, 8000, 8000 * bits // 8, bits // 8, bits) + extra
    body = first + b"fmt " + struct.pack("<I", len(fields)) + fields
    body += b"data" + struct.pack("<I", len(data) if length is None else length) + data
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def test_extensible_float_and_streamed_files_are_read(tmp_path: Path) -> None:
    """24 bits as recorders write them, floats, a chunk of odd length in front, and a length never filled in."""
    values = np.array([0.5, -0.25, 0.125], np.float32)
    whole = (values * (1 << 23)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    tail = struct.pack("<HHIH", 22, 24, 4, 1) + GUID_TAIL
    files = (
        header(0xFFFE, 24, whole, extra=tail),
        header(3, 32, values.tobytes(), first=b"LIST" + struct.pack("<I", 3) + b"abc\0"),
        header(1, 16, (values * 32768).astype("<i2").tobytes(), length=0xFFFFFFFF),
        header(1, 16, (values * 32768).astype("<i2").tobytes(), length=0),
    )
    for i, data in enumerate(files):
        path = tmp_path / f"{i}.wav"
        path.write_bytes(data)
        np.testing.assert_allclose(read_sound(path, None, 4), [*values, 0])


BROKEN = {
    "compressed": (header(17, 4, b"1234"), "found format 17 of 4 bits; save it as PCM of 16 bits"),
    "other extensible": (header(0xFFFE, 16, b"1234", extra=bytes(24)), "found format 65534"),
    "torn": (header(1, 16, b"1234", length=400), "expected 400 bytes of samples, found 4: it is torn"),
    "no samples": (header(1, 16, b"\0", length=1), "expected samples, found none"),
    "a header alone": (header(1, 16, b"")[:30], "it ends in its header"),
    "samples first": (header(1, 16, b"")[:12] + b"data" + bytes(8), "expected its format before its samples"),
    "no WAV": (b"RIFF\0\0\0\0AVI xxxxxxxx", "expected it to begin with RIFF and WAVE"),
    "nothing": (b"", "it ends in its header"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_says_why(tmp_path: Path, data: bytes, words: str) -> None:
    """Every kind of broken or foreign file is refused with what was found and what to do."""
    path = tmp_path / "it.wav"
    path.write_bytes(data)

    with pytest.raises(BadData, match=words):
        read_wave(path)


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 60), at=st.integers(0, 59), to=st.integers(0, 255))
def test_no_bytes_end_in_a_traceback(cut: int, at: int, to: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file with any byte changed and any end cut off is read or refused in words."""
    path = tmp_path_factory.getbasetemp() / "drawn.wav"
    data = bytearray(header(1, 16, bytes(range(16)), first=b"LIST" + struct.pack("<I", 2) + b"ab"))
    data[at % len(data)] = to
    path.write_bytes(data[: len(data) - cut % len(data)])
    with contextlib.suppress(BadData):
        assert read_sound(path, None, 200).shape == (200,)


def test_sounds_enter_the_model_beside_arrays(tmp_path: Path) -> None:
    """A path and an array become rows of the one input, in its type and shape; what fits neither is named."""
    path = write_wave(tmp_path / "it.wav", TONE, 8000)
    way = Tensors(Preprocess("tensors", (), {"sampling_rate": 8000}), [Tensor("samples", "float32", (2, 1, 600))])

    found = way.prepare([path, {"samples": np.ones((1, 600))}], BUCKET)

    assert (len(found), found.truncated) == (2, 0)
    taken = found.take([1, 0, 1])["samples"]
    assert taken.shape == (3, 1, 600)
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken[1, 0], TONE, atol=1e-4)
    assert taken[0].min() == 1
    with pytest.raises(BadData, match=r"sample 0: samples must be \[1, 600\], not \[600\]; sample 1: int is neither"):
        way.prepare([{"samples": np.ones(600)}, 3], BUCKET)


def test_a_sound_is_opened_once_within_a_bound(tmp_path: Path) -> None:
    """What was opened is there without its file and with the same samples; beyond the bound files are opened again."""
    paths = [write_wave(tmp_path / f"{k}.wav", TONE * (k + 1) / 4, 8000) for k in range(3)]
    way = Tensors(Preprocess("tensors", (), {"sampling_rate": 8000}), [Tensor("samples", "float32", (2, 600))])
    found = replace(way.prepare(paths, BUCKET), kept_bytes=2 * 600 * 4)

    first = found.take([0, 1, 2, 1])["samples"]
    for path in paths[:2]:
        path.unlink()

    np.testing.assert_array_equal(found.take([1, 2, 0])["samples"], first[[1, 2, 0]])
    paths[2].unlink()
    with pytest.raises(BadData, match="2.wav"):
        found.take([2])


def test_a_model_that_takes_no_samples_is_told() -> None:
    """Features of frames, two inputs, and a handful of numbers are refused with what to do."""
    frames, few = Tensor("input_features", "float32", (1, 80, 3000)), Tensor("x", "float32", (1, 4))
    ids = Tensor("ids", "int64", (1, 400))
    for inputs in ((frames,), (few,), (ids,), (few, few)):
        with pytest.raises(BadData, match=r"float32 \[batch, samples\], for WAV files.*give them as .npz"):
            sound_length(inputs)
    assert sound_length((Tensor("x", "float32", (1, 400)),)) == 400
