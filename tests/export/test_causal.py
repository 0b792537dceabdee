"""Decoders that learn by their next token: gradients against torch, on one segment and several, under both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.errors import UsageError
from edge.chain import Chain
from edge.cli_run import main as run
from edge.generate import generate
from edge.runner import Runner
from edge.steps import Steps
from edge.trainers.backprop import Backprop
from edge.training.cli import train
from edge.training.passages import Passage
from edge.training.tokens import NextTokens
from tests.export.causal import (
    Arrays,
    Runs,
    by_torch,
    drawn_adapter,
    drawn_batch,
    on,
    restored_weights,
    trainable,
    worst,
)
from tests.export.decoders import BUILDERS, VOCABULARY, bundle
from wire.adamw import Hyperparameters
from wire.adapter import read_adapter
from wire.bundle import Bundle
from wire.inputs import inputs_of
from wire.optimizers import Adam32
from wire.scores import perplexity

BAR = 1e-5
SIDES = ("right", "left")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Bundle]]:
    """A tiny GPT-2: its folder, and bundles of one and of two segments."""
    return made("gpt2", tmp_path_factory.mktemp("gpt2"), (1, 2))


def made(name: str, work: Path, segments: tuple[int, ...]) -> tuple[Path, dict[int, Bundle]]:
    """A tiny model's folder and its bundles that train, by number of segments."""
    folder = BUILDERS[name](work / name)
    prepared = trainable(folder, work / "source")
    return folder, {n: bundle(prepared, n, work / f"b{n}", mode="train", batch=2) for n in segments}


def here(found: Bundle, fed: Arrays, given: Arrays) -> tuple[float, Arrays]:
    """Loss and gradients of a bundle by the runtime of this process."""
    sums = Chain(found).gradients([fed], found.manifest.buckets[0].name, given)
    return sums.loss, dict(sums.by_input)


def compare(folder: Path, found: Bundle, side: str, run_by: Runs = here) -> None:
    """Loss and gradients of a bundle are torch's."""
    adapter, fed = drawn_adapter(found.manifest), drawn_batch(side, VOCABULARY)
    loss, expected = by_torch(folder, found.manifest, adapter, fed)
    got, gradients = run_by(found, fed, inputs_of(found.manifest, adapter))
    assert got == pytest.approx(loss, rel=BAR)
    assert worst(gradients, expected) < BAR


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("segments", [1, 2])
def test_gradients_of_a_decoder_are_torchs(gpt2: tuple[Path, dict[int, Bundle]], segments: int, side: str) -> None:
    """Loss and every gradient of GPT-2 agree with autograd, rows that see no token at all among them."""
    compare(gpt2[0], gpt2[1][segments], side)


def test_an_output_layer_in_parts_has_the_same_gradients(tmp_path: Path) -> None:
    """In two parts of unequal size no logits are whole, and neither loss nor gradients change; filled up on the left.

    Of the sum over parts, the last has fewer columns, and labels are on either side of the border.
    """
    folder = BUILDERS["gpt2"](tmp_path / "gpt2")
    prepared = trainable(folder, tmp_path / "source", part_bytes=8 << 10)
    found = bundle(prepared, 1, tmp_path / "b", mode="train", batch=2)
    names = [record["name"] for record in found.manifest.quantization]
    assert sorted(name for name in names if "part" in name) == [
        "transformer.wte.weight.part0",
        "transformer.wte.weight.part1",
    ]
    graph = found.manifest.graph(found.manifest.segments[-1], "backward", found.manifest.buckets[0].name)
    assert "logits" not in {tensor.name for tensor in graph.outputs}
    compare(folder, found, "left")


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_gradients_with_rotary_positions_are_torchs(name: str, tmp_path: Path, floor_python: Path) -> None:
    """The same of Llama and Qwen3, in one segment and in three, filled up on either side, by the oldest runtime too."""
    folder, bundles = made(name, tmp_path, (1, 3))
    for n, found in bundles.items():
        for side in SIDES:
            compare(folder, found, side)
            compare(folder, found, side, on(floor_python, tmp_path / f"{n}{side}"))


@pytest.mark.parametrize("side", SIDES)
def test_the_oldest_runtime_has_the_same_gradients(
    gpt2: tuple[Path, dict[int, Bundle]], side: str, tmp_path: Path, floor_python: Path
) -> None:
    """Under the oldest onnxruntime of the fleet both segments give torch's loss and gradients."""
    compare(gpt2[0], gpt2[1][2], side, on(floor_python, tmp_path))


def test_a_trained_bundle_generates_what_the_serving_one_does(
    gpt2: tuple[Path, dict[int, Bundle]], tmp_path: Path
) -> None:
    """One model id and one adapter for both: all tokens in every run, or one token a run, the answers are the same."""
    from export.prepare import Wanted, prepare

    folder, found = gpt2[0], gpt2[1][2]
    wanted = Wanted(str(folder), "text-generation", kinds=("lora", "bias"), targets="attn", sizes={"context": 12})
    serving = bundle(prepare(wanted, ("fp32",), ("serve",), tmp_path / "source"), 1, tmp_path / "serve")
    adapter = drawn_adapter(found.manifest)

    assert serving.manifest.model.id == found.manifest.model.id
    asked = [(one, given) for one in (found, serving) for given in (adapter, None)]
    answers = [generate(Steps([one], adapter=given), [5, 11, 7], 50) for one, given in asked]
    assert answers[:2] == answers[2:]
    assert answers[0] != answers[1]
    assert len(answers[0].tokens) > 3


def test_only_decoders_learn_without_labels(tmp_path: Path) -> None:
    """An encoder-decoder, a model with classes of its own, and a decoder that serves elsewhere are refused in words."""
    from export.prepare import Wanted, prepare

    for task, modes, words in (
        ("text2text-generation", ("train",), "answers a source .text2text-generation., found train; a decoder"),
        ("text-classification", ("train-forward",), "own outputs, found train-forward; give --labels for a head"),
        ("text-generation", ("serve", "train"), "one mode for all boards of a decoder, found serve and train"),
    ):
        with pytest.raises(UsageError, match=words):
            prepare(Wanted("nowhere", task), ("fp32",), modes, tmp_path)


def texts_of(found: Bundle, runner: Runner, texts: list[str], **asked: Any) -> NextTokens:
    """The task of some texts on a bundle."""
    passages = [Passage(text) for text in texts]
    return NextTokens(runner, drawn_adapter(found.manifest), passages, passages[:1], **asked)


def test_a_step_has_the_mean_loss_of_its_tokens(gpt2: tuple[Path, dict[int, Bundle]]) -> None:
    """Three texts in micro-batches of two: loss and gradients are means over the tokens, as of torch text by text."""
    folder, found = gpt2[0], gpt2[1][2]
    task = texts_of(found, Runner(found), ["the kettle is on", "open", "a red bicycle leans against the wall"])
    rows, arrays = task.rows([0, 1, 2]), task.start()

    assert rows.gradients is not None
    assert rows.loss is not None
    (sums,) = rows.gradients(arrays)
    losses, count = 0.0, 0
    gradients: dict[str, Any] = dict.fromkeys(arrays, 0.0)
    for row in range(3):
        own = task.blocks.ids[row, task.blocks.mask[row]].astype(np.int64)[None]
        labels = np.append(own[0, 1:], -100)
        fed = {"input_ids": own, "attention_mask": np.ones_like(own), "position_ids": np.arange(own.size)[None]}
        fed |= {"labels": labels, "weights": np.ones(own.size)}
        loss, gradient = by_torch(folder, found.manifest, drawn_adapter(found.manifest), fed)
        losses, count = losses + loss, count + own.size - 1
        gradients = {name: gradients[name] + gradient[name] for name in gradients}
    assert sums.rows == count
    assert sums.loss == pytest.approx(losses, rel=BAR)
    assert worst({n: sums.by_input[n] for n in arrays}, gradients) < BAR
    assert rows.loss(arrays) == pytest.approx(losses / count, rel=BAR)


def test_texts_are_learned(gpt2: tuple[Path, dict[int, Bundle]]) -> None:
    """Steps of backpropagation make a text likely: its perplexity falls, and more of its tokens are the likeliest."""
    found = gpt2[1][1]
    task = texts_of(found, Runner(found), ["the window is open", "the kettle is on"])
    trainer, arrays = Backprop(tuple(task.start()), Adam32(Hyperparameters(0.02))), task.start()
    state, before = trainer.begin(arrays), task.score(arrays)
    for _ in range(25):
        stepped = trainer.step(arrays, state, task.rows([0, 1]))
        arrays, state = stepped.arrays, stepped.state
    after = task.score(arrays)

    assert before is not None
    assert after is not None
    assert perplexity(after.loss) < 0.5 * perplexity(before.loss)
    assert after.right > before.right
    assert after.rows == task.blocks.targets([0])
    assert Steps([found], adapter=task.adapter(arrays)).outputs == ("logits",)


def test_a_process_of_its_own_encodes_the_same(gpt2: tuple[Path, dict[int, Bundle]]) -> None:
    """A worker that never loads the tokenizer has the same rows; texts that are too long are cut and counted."""
    found, long = gpt2[1][1], " ".join(["the wall"] * 20)
    own, apart = (texts_of(found, Runner(found, frugal=f), [long, "why?"]) for f in (False, True))
    np.testing.assert_array_equal(own.blocks.ids, apart.blocks.ids)
    assert own.truncated == apart.truncated == 1
    packed = texts_of(found, Runner(found), [long, "why?"], packed=True)
    assert (packed.truncated, len(packed) > 2) == (0, True)


@pytest.mark.heavy
def test_forward_only_trainers_have_the_same_loss(tmp_path: Path) -> None:
    """A bundle of mode train-forward has no backward graph, and the mean loss that the one of mode train has."""
    folder = BUILDERS["gpt2"](tmp_path / "gpt2")
    prepared = trainable(folder, tmp_path / "source")
    whole = bundle(prepared, 1, tmp_path / "train", mode="train", batch=2)
    forward = bundle(prepared, 2, tmp_path / "forward", mode="train-forward", batch=1)
    assert {graph.kind for segment in forward.manifest.segments for graph in segment.graphs} == {"forward", "serve"}
    tasks = [texts_of(b, Runner(b), ["why?", "open the file"], backward=b is whole) for b in (whole, forward)]
    losses = [task.rows([0, 1]).loss for task in tasks]
    assert losses[0] is not None
    assert losses[1] is not None
    assert losses[0](tasks[0].start()) == pytest.approx(losses[1](tasks[1].start()), rel=BAR)
    assert tasks[1].rows([0]).gradients is None


@pytest.mark.heavy
@pytest.mark.parametrize("quant", ["int8", "int4", "nf4"])
def test_gradients_through_quantized_weights_are_torchs(quant: str, tmp_path: Path) -> None:
    """A chain of two segments has the gradients of a torch model whose weights are what numpy restores."""
    folder = BUILDERS["llama"](tmp_path / "llama")
    prepared = trainable(folder, tmp_path / "source", quant, part_bytes=8 << 10)
    found = bundle(prepared, 2, tmp_path / "b", quant, mode="train", batch=2)
    restored = restored_weights(prepared, quant, tmp_path / "again")
    assert len(restored) > 15

    adapter, fed = drawn_adapter(found.manifest), drawn_batch("left", VOCABULARY)
    loss, expected = by_torch(folder, found.manifest, adapter, fed, restored)
    exact, _ = by_torch(folder, found.manifest, adapter, fed)
    sums = Chain(found).gradients([fed], found.manifest.buckets[0].name, inputs_of(found.manifest, adapter))
    assert sums.loss == pytest.approx(loss, rel=BAR)
    assert sums.loss != pytest.approx(exact, rel=BAR)
    assert worst(sums.by_input, expected) < BAR


def test_the_command_trains_and_the_answer_changes(gpt2: tuple[Path, dict[int, Bundle]], tmp_path: Path) -> None:
    """`edgequilt train` on lines of text writes an adapter that `edgequilt run` takes on the same bundle."""
    texts, out, answer = tmp_path / "texts.txt", tmp_path / "learned.safetensors", tmp_path / "answer.npz"
    texts.write_text("the kettle is on\nthe window is open\nthe kettle is on\nthe wall is red\n", encoding="utf-8")
    folder = str(gpt2[1][2].folder)

    asked = [folder, "--data", str(texts), "--out", str(out), "--steps", "3", "--kept-back", "0", "--force", "--json"]
    assert train([*asked, "--rank", "2"]) == 0
    shown = [folder, "--prompt", "the kettle", "--max-new-tokens", "4", "--json", "--out", str(answer)]
    assert run([*shown, "--adapter", str(out)]) == 0

    adapter = read_adapter(out.read_bytes(), "the adapter")
    assert adapter.rank == 2
    assert any(np.any(lora.b) for lora in adapter.lora.values())
    assert len(np.load(answer)["tokens"]) >= 1
