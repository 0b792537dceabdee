"""Decoders in rounds: the real hub, real agents and workers with an exported tiny model, from texts to a version."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from console.errors import UsageError
from edge.data import board_data
from edge.training.cli import train
from hub.making import versions
from hub.show.rounds import round_text
from tests.edge.boards import Board, make_board
from tests.export.causal import adapted, decoder, trainable
from tests.export.decoders import END, bundle, tiny_gpt2
from tests.export.models import WORDS
from tests.hub.split_farm import SplitFarm, farm
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import MANIFEST, SIGNATURE, Bundle
from wire.envelope import detached
from wire.kinds.lora import Lora
from wire.manifest import parse_manifest
from wire.manifest import to_bytes as manifest_bytes

pytestmark = pytest.mark.heavy
RANK, SMALL = 4, 2
HELD = 0.25
TOLD: dict[str, Any] = {"steps": 8, "batch": 4, "learning_rate": 0.02}
Model = Callable[[Path], Board]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A tiny GPT-2, and its bundle of three segments with backward graphs."""
    work = tmp_path_factory.mktemp("gpt2")
    folder = tiny_gpt2(work / "gpt2")
    return folder, bundle(
        trainable(folder, work / "source", kinds=("lora",)), 3, work / "b", mode="train", batch=2, verified=False
    )


@pytest.fixture
def model(made: tuple[Path, Bundle]) -> Model:
    """The bundle as a farm wants it: of one publisher, and for a server."""

    def put(folder: Path) -> Board:
        board = make_board(folder, "whole")
        shutil.rmtree(board.bundle)
        shutil.copytree(made[1].folder, board.bundle)
        whole = made[1].manifest
        body = manifest_bytes(replace(whole, plan=replace(whole.plan, rank=RANK, device="server")))
        (board.bundle / MANIFEST).write_bytes(body)
        (board.bundle / SIGNATURE).write_bytes(detached(board.publisher, body))
        return replace(board, manifest=parse_manifest(body))

    return put


def write_texts(path: Path, rows: int) -> None:
    """Sentences that boards have in common and such that only one has; lines, whatever the name says of it."""
    texts = [f"{WORDS[i % 3]} {WORDS[2 + i % 5]} {WORDS[4 + (i * 7) % rows % 9]} {WORDS[i % 7]}" for i in range(rows)]
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts), encoding="utf-8")


def loss_by_torch(folder: Path, found: Bundle, adapter: Adapter, texts: list[str]) -> tuple[float, int]:
    """The summed loss of the next tokens of texts in float64, and how many tokens those are."""
    network, tokenizer = decoder(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    adapted(network, found.manifest, adapter)
    total, count, length = 0.0, 0, found.manifest.buckets[0].sequence
    for text in texts:
        ids = torch.tensor([[*tokenizer.encode(text).ids, END][:length]])
        with torch.no_grad():
            logits = network(input_ids=ids).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total, count


def sides(world: SplitFarm, name: str) -> tuple[list[str], list[str]]:
    """The texts of a board that are learned, and those kept back."""
    config = world.configs[name]
    data = board_data(config.data, world.first.manifest, config.holdout)
    return [row.sample.text for row in data.train], [row.sample.text for row in data.holdout]


def published(world: SplitFarm, number: int) -> dict[str, dict[str, Lora]]:
    """The factors that boards sent in a round."""
    rows = [row for row in world.hub.home.ledger.updates(number) if row["kind"] == "adapter"]
    return {row["device"]: dict(read_adapter(world.hub.home.blobs.get(row["digest"]), "it").lora) for row in rows}


def version_of(world: SplitFarm, number: int) -> Adapter:
    """The adapter of a version at the hub's rank."""
    home = world.hub.home
    (row,) = [one for one in home.ledger.versions() if one["number"] == number]
    return Adapter("", "", versions.read_ladder(versions.read_made(row).version, home.blobs))


def far(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The largest difference, relative to the largest entry."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def test_two_boards_of_unequal_rank_make_a_version_that_goes_on_better(
    made: tuple[Path, Bundle], model: Model, tmp_path: Path
) -> None:
    """A round makes the mean of what boards sent, its gate finds torch's losses on texts kept back, and releases it."""
    with farm(tmp_path, {"barn": 0, "coop": 0}, (), model=model, write=write_texts, ranks={"coop": SMALL}) as world:
        told = {row["name"]: row["hello"] for row in world.hub.home.ledger.devices()}
        assert {n: (h["samples"], h["rank"]) for n, h in told.items()} == {"barn": (18, RANK), "coop": (24, SMALL)}
        assert {tuple(h["jobs"]) for h in told.values()} == {("train", "spry", "evaluate", "secure")}

        found = world.run(settings=TOLD)

        assert found["state"] == "complete", found
        learned, kept = zip(*(sides(world, name) for name in ("barn", "coop")), strict=True)
        assert [s["samples"] for s in found["per_device"].values()] == [len(texts) for texts in learned]
        sent, after = published(world, 1), version_of(world, 1)
        for slot, factors in after.lora.items():
            parts = [len(t) * sent[n][slot].product() for n, t in zip(("barn", "coop"), learned, strict=True)]
            assert far(factors.product(), np.sum(parts, axis=0) / sum(map(len, learned))) < 1e-5
        assert {n: one.rank for n, f in sent.items() for one in f.values()} == {"barn": RANK, "coop": SMALL}

        gate, judged = found["gate"], {RANK: "barn", SMALL: "coop"}
        for which, version in (("parent", 0), ("candidate", 1)):
            ladder = version_of(world, version)
            cut = [replace(ladder, lora={s: f.prefix(rank) for s, f in ladder.lora.items()}) for rank in judged]
            both = [loss_by_torch(made[0], made[1], one, k) for one, k in zip(cut, kept, strict=True)]
            assert gate[f"{which}_loss"] == pytest.approx(sum(b[0] for b in both) / sum(b[1] for b in both), rel=1e-5)
        assert gate["candidate_loss"] < 0.8 * gate["parent_loss"]
        assert gate["released"]
        assert gate["against"]["version"] == 0
        world.wait(lambda: all(core.store.released.served is not None for core in world.cores.values()))
        served = [core.store.served_of(world.first.manifest.model.id) for core in world.cores.values()]
        assert [None if one is None else one.digest for one in served] == [found["version"]["digest"]] * 2

        judged_all = world.run("evaluate", versions=["0", "1"], settings={"split": "all"})
        scores = judged_all["scores"]
        assert "loss of a token  perplexity" in round_text(judged_all)
        for name, both in scores.items():
            before, later = sorted(both, key=lambda s: s["version"])
            assert before["rows"] == later["rows"] == told[name]["samples"]
            assert later["loss"] < before["loss"]


def by_command(found: Bundle, begun: Adapter, texts: list[str], work: Path) -> dict[str, Lora]:
    """What `edgequilt train` makes of texts, from a version on, in as many steps as a round."""
    start, out, lines = work / "start.safetensors", work / "out.safetensors", work / "texts.txt"
    work.mkdir()
    own = {slot: factors.prefix(RANK) for slot, factors in begun.lora.items()}
    start.write_bytes(to_bytes(Adapter(found.manifest.model.id, "", own)))
    lines.write_text("\n".join(texts), encoding="utf-8")
    asked = ["--steps", "8", "--batch", "4", "--rate", "0.02", "--seed", "5", "--kept-back", "0", "--clip", "0"]
    more = ["--schedule", "constant", "--warmup", "0", "--patience", "0", "--kinds", "lora", "--trainer", "backprop"]
    given = [str(found.folder), "--data", str(lines), "--adapter", str(start), "--out", str(out), "--force", "--json"]
    assert train([*given, *asked, *more]) == 0
    return dict(read_adapter(out.read_bytes(), "it").lora)


def test_a_lone_board_learns_what_the_command_learns(made: tuple[Path, Bundle], model: Model, tmp_path: Path) -> None:
    """What a board sends is to the bit what `edgequilt train` makes of its texts; spry and thin updates count too."""
    with farm(tmp_path / "farm", {"barn": 0}, (), model=model, write=write_texts) as world:
        assert world.run(settings={**TOLD, "seed": 5})["state"] == "complete"
        begun, sent, texts = version_of(world, 0), published(world, 1)["barn"], sides(world, "barn")[0]
        told: list[dict[str, Any]] = [{"settings": {"steps": 2, "trainer": "spry"}}, {"recipe": {"thin": "int8"}}]
        for other in told:
            before = world.ladder()
            assert world.run(**other, gate=False)["state"] == "complete"
            assert all(not np.array_equal(f.product(), before[slot].product()) for slot, f in world.ladder().items())
    found = by_command(made[1], begun, texts, tmp_path / "alone")
    assert found.keys() == sent.keys()
    assert all(np.array_equal(found[s].a, f.a) and np.array_equal(found[s].b, f.b) for s, f in sent.items())


def test_fronts_of_a_decoder_learn_what_the_command_learns(
    made: tuple[Path, Bundle], model: Model, tmp_path: Path
) -> None:
    """Fronts of two depths make, with a tail, the mean of what `edgequilt train` makes of each one's texts."""
    with farm(tmp_path / "farm", {"barn": 1, "coop": 2}, model=model, write=write_texts) as world:
        told = {row["name"]: row["hello"]["jobs"] for row in world.hub.home.ledger.devices()}
        assert (told["barn"], "tail" in told["tail-1"]) == (["front"], True)
        found = world.run(settings={**TOLD, "seed": 5}, split={"coding": "float32"})
        assert found["state"] == "complete", found
        assert [s.get("halves") for s in found["per_device"].values()] == [["front", "tail"]] * 2
        assert found["gate"] is None  # a front has no way back from its tail for the loss of a text
        for split in ({"labels": "stay"}, {"mode": "local"}):
            with pytest.raises(UsageError, match=r"step by step, where tiny-.* has no head"):
                world.run(settings=TOLD, split=split)
        begun, after = version_of(world, 0), version_of(world, 1)
        texts = [sides(world, name)[0] for name in world.depths]
    alone = [by_command(made[1], begun, some, tmp_path / str(at)) for at, some in enumerate(texts)]
    for slot, factors in after.lora.items():
        parts = [len(some) * one[slot].product() for one, some in zip(alone, texts, strict=True)]
        assert far(factors.product(), np.sum(parts, axis=0) / sum(map(len, texts))) < 1e-4
