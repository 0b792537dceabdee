"""What a model makes of samples of one kind: texts cut to a bucket, pictures resized, sounds resampled, cut or padded.

A trait sees every sample once and then says what it found: as a table's lines, as JSON, and as warnings.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from console.errors import BadData
from console.table import many, percent
from edge.data.texts import Passage
from edge.data.wav import read_wave

AT_ONCE = 256  # texts in one call of the tokenizer


class Trait(Protocol):
    """What one kind of sample has about it."""

    def see(self, sample: Any) -> str | None:
        """Take a sample in; returns what is wrong with it, if anything."""

    def close(self) -> None:
        """The last sample was seen."""

    def plain(self) -> dict[str, Any]:
        """What was found, for JSON."""

    def lines(self) -> list[tuple[str, str]]:
        """What was found, for a table: what it is about, and a few words."""

    def told(self) -> list[str]:
        """Warnings."""


class Nothing:
    """A kind of sample that nothing more is said of: arrays have the model's shape, or are refused."""

    def see(self, sample: Any) -> str | None:
        """Arrays were looked at by their door."""

    def close(self) -> None:
        """Nothing is left."""

    def plain(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def lines(self) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def told(self) -> list[str]:
        """Nothing."""
        return []


class TokenCounts:
    """Lengths of texts in tokens.

    Args:
        tokenizer: of the bundle, as `edge.encode.open_tokenizer` gives it.
        limit: tokens that the model sees at most.
    """

    def __init__(self, tokenizer: Any, limit: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.limit = tokenizer, limit
        self.lengths: Counter[int] = Counter()
        self._waiting: list[Passage] = []

    def see(self, sample: Any) -> str | None:
        """Texts are counted many at a time."""
        self._waiting.append(sample if isinstance(sample, Passage) else Passage(sample))
        if len(self._waiting) == AT_ONCE:
            self.close()
        return None

    def close(self) -> None:
        """Count those that wait."""
        first = self._tokenizer.encode_batch([p.prompt or p.text for p in self._waiting])
        texts = [p.text if p.prompt else "" for p in self._waiting]  # behind a prompt
        rest = self._tokenizer.encode_batch(texts, add_special_tokens=False) if any(texts) else [None] * len(first)
        self.lengths.update(len(a.ids) + (0 if b is None else len(b.ids)) for a, b in zip(first, rest, strict=True))
        self._waiting.clear()

    @property
    def truncated(self) -> int:
        """Texts that lose their end."""
        return sum(count for length, count in self.lengths.items() if length > self.limit)

    def plain(self) -> dict[str, Any]:
        """Lengths in tokens, special ones included."""
        longest, total = max(self.lengths, default=0), sum(n * count for n, count in self.lengths.items())
        return {"limit": self.limit, "longest": longest, "truncated": self.truncated, "tokens": total}

    def lines(self) -> list[tuple[str, str]]:
        """The longest text, and how many lose their end."""
        found = self.plain()
        share = percent(self.truncated / max(1, self.lengths.total()))
        return [
            ("longest text", f"{found['longest']} tokens; the model sees {self.limit}"),
            ("truncated", f"{many(self.truncated, 'text')}, {share}"),
        ]

    def told(self) -> list[str]:
        """That texts are cut."""
        if not self.truncated:
            return []
        longer = f"{self.truncated} texts are longer than {self.limit} tokens and lose their end"
        return [f"{longer}: export with a larger --sequence"]


class PictureSizes:
    """Sizes of pictures, in pixels.

    Args:
        wanted: width and height that the model sees.
    """

    def __init__(self, wanted: tuple[int, int]) -> None:
        self.wanted = wanted
        self.sizes: Counter[tuple[int, int]] = Counter()

    def see(self, sample: Any) -> str | None:
        """Decode every pixel."""
        from wire.image import size_of

        found = size_of(Path(sample), whole=True)
        if isinstance(found, str):
            return found
        self.sizes[found] += 1
        return None

    def close(self) -> None:
        """Nothing waits."""

    @property
    def others(self) -> int:
        """Pictures of another size than the model's."""
        return self.sizes.total() - self.sizes[self.wanted]

    def plain(self) -> dict[str, Any]:
        """Sizes, the most frequent ones."""
        sizes = {f"{w}x{h}": count for (w, h), count in self.sizes.most_common(20)}
        return {"wanted": "{}x{}".format(*self.wanted), "resized": self.others, "sizes": sizes}

    def lines(self) -> list[tuple[str, str]]:
        """What is resized."""
        often = ", ".join(f"{w}x{h} ({count})" for (w, h), count in self.sizes.most_common(4))
        wide, high = self.wanted
        return [("sizes", often), ("resized", f"{self.others} pictures; the model sees {wide}x{high}")]

    def told(self) -> list[str]:
        """That pictures are smaller than the model's input on both sides."""
        small = sum(n for (w, h), n in self.sizes.items() if 2 * w <= self.wanted[0] and 2 * h <= self.wanted[1])
        return [f"{small} pictures have half the model's size or less: they are blurred"] if small else []


class SoundLengths:
    """Rates and lengths of WAV files.

    Args:
        samples: that the model sees.
        rate: at which it sees them, in Hz; None where the bundle does not say.
    """

    def __init__(self, samples: int, rate: int | None) -> None:
        self.samples, self.rate = samples, rate
        self.rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()
        self.shortest_s, self.longest_s = float("inf"), 0.0
        self.cut = self.padded = 0

    def see(self, sample: Any) -> str | None:
        """Read a header; arrays in a file of their own are no sound."""
        if Path(sample).suffix == ".npz":
            return None
        try:
            wave = read_wave(Path(sample))
        except BadData as error:
            return str(error)
        self.rates[wave.rate] += 1
        self.channels[wave.channels] += 1
        self.shortest_s, self.longest_s = min(self.shortest_s, wave.length_s), max(self.longest_s, wave.length_s)
        long = -(-wave.frames * (self.rate or wave.rate) // wave.rate)
        self.cut += long > self.samples
        self.padded += long < self.samples
        return None

    def close(self) -> None:
        """Nothing waits."""

    def plain(self) -> dict[str, Any]:
        """Rates in Hz, lengths in seconds."""
        return {
            "samples": self.samples,
            "rate": self.rate,
            "rates": {str(rate): count for rate, count in self.rates.most_common(20)},
            "channels": {str(channels): count for channels, count in self.channels.most_common(20)},
            "shortest_s": self.shortest_s if self.rates else None,
            "longest_s": self.longest_s,
            "cut": self.cut,
            "padded": self.padded,
        }

    def lines(self) -> list[tuple[str, str]]:
        """What happens to sounds on their way in."""
        if not self.rates:
            return []
        often = ", ".join(f"{rate} Hz ({count})" for rate, count in self.rates.most_common(4))
        heard = self.rate or self.rates.most_common(1)[0][0]
        at = f"at {heard} Hz" if self.rate else "at the files' own rate, since the bundle names none"
        return [
            ("rates", often),
            ("lengths", f"{self.shortest_s:.2f} s to {self.longest_s:.2f} s"),
            ("heard", f"{self.samples / heard:.2f} s, {self.samples} samples {at}"),
            ("cut, padded", f"{self.cut} files lose their end, {self.padded} end in silence"),
        ]

    def told(self) -> list[str]:
        """That a sampling rate is assumed, or that files do not hold what the model listens for."""
        if self.rate is None:
            return ["the bundle names no sampling rate: files are taken as they are"]
        low = sum(count for rate, count in self.rates.items() if rate < self.rate)
        return [f"{low} files have a lower rate than the model: high tones are missing"] if low else []
