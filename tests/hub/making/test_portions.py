"""How many slots' sums a hub has in memory together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hub.making import portions as room
from hub.making import versions
from hub.making.portions import SUMS_BYTES, portions
from tests.hub.world import World
from wire.adapter import Adapter, read_adapter, read_slots, to_bytes
from wire.files import write_atomic
from wire.kinds.lora import Lora


def _lora(rows: int, columns: int) -> Lora:
    return Lora(np.ones((rows, 2), np.float32), np.ones((2, columns), np.float32), 2.0)


def test_portions_have_every_slot_once_and_no_more_bytes_than_they_may() -> None:
    """Slots come in portions within the bound, or alone if one is larger by itself."""
    sent = {f"slot-{i}": _lora(256, 256 * (1 + i % 3)) for i in range(9)}
    sent["huge"] = _lora(8192, 8192)

    found = portions(sent)

    assert sorted(name for names in found for name in names) == sorted(sent)
    sizes = [sum(sent[n].a.shape[0] * sent[n].b.shape[1] * 8 for n in names) for names in found]
    assert all(size <= SUMS_BYTES or len(names) == 1 for size, names in zip(sizes, found, strict=True))
    assert len(found) < len(sent)


@pytest.mark.parametrize("kinds", [["lora"], ["lora", "bias"]])
def test_portions_change_no_version(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, kinds: list[str]
) -> None:
    """A hub that sums slot by slot makes the same factors, biases and heads as one that sums all slots together."""
    found = []
    for size in (SUMS_BYTES, 1):
        monkeypatch.setattr(room, "SUMS_BYTES", size)
        world = make_world(biases={"layer.0.query": 6})
        for device in world.devices.values():
            device.bias_moves = {"layer.0.query": np.full(6, 0.25, np.float32)}
        world.run("train", settings={"kinds": kinds})
        ledger, blobs = world.hub.home.ledger, world.hub.home.blobs
        version = versions.read_made(ledger.versions()[-1]).version
        found.append((versions.read_ladder(version, blobs), versions.read_biases(version, blobs)))

    (one, biases), (other, other_biases) = found
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[n].a, other[n].a) and np.array_equal(one[n].b, other[n].b) for n in one)
    assert biases.keys() == other_biases.keys()
    assert all(np.array_equal(biases[n], other_biases[n]) for n in biases)


def test_slots_of_a_file_are_those_of_the_whole(tmp_path: Path) -> None:
    """Reading some slots gives what reading all gives, and slots that the file lacks are left out."""
    made = Adapter("toy", "v" * 64, {name: _lora(4, 3 + i) for i, name in enumerate("abc")})
    path = tmp_path / "adapter"
    write_atomic(path, to_bytes(made))

    found = read_slots(path, {"a", "c", "z"})

    whole = read_adapter(path.read_bytes(), "it").lora
    assert sorted(found) == ["a", "c"]
    assert all(np.array_equal(found[n].a, whole[n].a) and np.array_equal(found[n].b, whole[n].b) for n in found)
    assert {one.scale for one in found.values()} == {2.0}
