"""A Hugging Face model becomes an `onnx_ir.Model` with named weights: an encoder, a decoder, or with its own head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass

from console.errors import UnsupportedModel, UsageError
from export.linears import name_weights
from export.preprocess import Preprocessing, image_preprocessing, sound_preprocessing, text_preprocessing
from export.sources import causal, decoder, prefix
from export.sources.captured import Captured, Modality, Reference, Samples, StatePair
from export.sources.folder import (
    TOKENIZERS,
    VOCABULARIES,
    read_json,
    resolve,
    source_digest,
    weight_names,
)
from export.sources.optimum_graph import raw_graph
from export.sources.origin import refuse_invented
from export.sources.tasks import SAMPLES, class_names, fix_pixels, name_dims, pixels_of, symbols
from wire.manifest import Generate, Loss

# tasks whose hidden states can have a head of ours, and what they read
TASKS: dict[str, tuple[Literal["text", "image"], ...]] = {
    "feature-extraction": ("text", "image"),
    "text-classification": ("text",),
    "image-classification": ("image",),
}
CACHED = "text-generation"
PREFIX = ("text2text-generation", "automatic-speech-recognition", "image-to-text")
READS: dict[Literal["text", "image"], tuple[str, ...]] = {
    "text": ("input_ids", "attention_mask", "token_type_ids"),
    "image": ("pixel_values",),
}


def capture_huggingface(
    source: str,
    task: str,
    work: Path,
    sizes: Mapping[str, int] | None = None,
    *,
    own_head: bool = False,
    trained: bool = False,
) -> Captured:
    """Export a model of the Hugging Face hub, or of a folder.

    Args:
        source: a Hugging Face id, or a folder that `save_pretrained` wrote.
        task: as optimum names tasks; it must fit the model.
        work: a folder for the raw graph, its weights and the tokenizer; made when absent, kept for
            verification, owned by the caller.
        sizes: of dimensions by name: `context` of a model that generates, `samples` of a sound, others as optimum
            names them.
        own_head: with the head that the model came with, also where one of ours could be put on (see `TASKS`).
        trained: a decoder as it is trained: whole texts, no caches (`export.sources.causal`).

    Raises:
        UsageError: an unknown task, or a context that the model cannot place.
        MissingDependency: optimum is not there, or not with the versions that it needs.
        UnsupportedModel: the model cannot be fetched, exported or used for this task.
    """
    task = task.removesuffix("-with-past")
    if task in TASKS and not own_head:
        return capture_encoder(source, task, work)
    door = _Door(source, task, work, sizes or {})
    if task == CACHED:
        return _capture_causal(door) if trained else _capture_cached(door)
    if task in PREFIX and door.config.get("is_encoder_decoder", "decoder" in door.config):
        return _capture_prefix(door)
    return _capture_task(door)


def capture_encoder(source: str, task: str, work: Path) -> Captured:
    """Export an encoder without a head.

    Args:
        source: a Hugging Face id, or a folder that `save_pretrained` wrote.
        task: "feature-extraction", "text-classification" or "image-classification"; it must fit the model.
        work: see `capture_huggingface`.

    Raises:
        UsageError: an unknown task.
        MissingDependency: optimum is not there, or not with the versions that it needs.
        UnsupportedModel: the model cannot be fetched, exported or used as an encoder.
    """
    if task not in TASKS:
        raise UsageError(f"expected one of the tasks {', '.join(TASKS)}, found {task!r}")
    door = _Door(source, task, work, {})
    model = door.export("feature-extraction")
    modality, hidden = _checked(model, task, source)
    if modality == "text":
        preprocess = text_preprocessing(door.folder, work)
    else:
        preprocess = image_preprocessing(door.folder)
        fix_pixels(model.graph, preprocess.parameters)
    name_dims(model.graph)
    return door.captured(model, modality, preprocess, hidden=hidden)


def _capture_cached(door: _Door) -> Captured:
    """A decoder that takes one token and its caches."""
    context = decoder.context_of(door.folder, door.sizes)
    model = door.export(f"{CACHED}-with-past")
    states = decoder.fix_caches(model.graph)
    if not states:
        raise UnsupportedModel(f"expected a decoder with caches in {door.source}, found none; choose another model")
    decoder.fix_context(model.graph, context)
    generate = decoder.cached_record(model.graph, context, decoder.rules_of(door.folder))
    samples = decoder.cached_samples(model.graph, context, decoder.vocabulary_of(door.folder))
    # one token and caches go in, not a text of some length
    return door.captured(
        model,
        "tensors",
        door.text()[1],
        states=states,
        generate=generate,
        samples=samples,
        reference=decoder.cached_reference(door.original),
        batches=(1,),
    )


def _capture_causal(door: _Door) -> Captured:
    """A decoder that takes whole texts; how many tokens they have is decided later."""
    model = door.export(CACHED)
    name_dims(model.graph)
    causal.check_causal(model.graph, door.source)
    preprocess = text_preprocessing(door.folder, door.work)
    longest = int(preprocess.parameters["max_length"])
    return door.captured(
        model,
        "text",
        preprocess,
        generate=causal.causal_record(model.graph, longest, decoder.rules_of(door.folder)),
        samples=causal.causal_samples(model.graph, preprocess, decoder.vocabulary_of(door.folder)),
        loss=causal.next_token(),
    )


def _capture_prefix(door: _Door) -> Captured:
    """An encoder-decoder in one graph."""
    context = decoder.context_of(door.folder, door.sizes)
    model = door.export(door.task, monolith=True)
    name_dims(model.graph)
    prefix.fix_prefix(model, context)
    generate = prefix.prefix_record(context, decoder.rules_of(door.folder))
    samples = prefix.prefix_samples(model.graph, context, decoder.vocabulary_of(door.folder))
    reference = prefix.prefix_reference(door.original)
    reads = {str(value.name) for value in model.graph.inputs} - {prefix.TOKENS}
    # a board must be able to say in words what a model of sounds or pictures answers
    modality, preprocess = door.text() if reads <= set(READS["text"]) else ("tensors", door.text()[1])
    return door.captured(
        model, modality, preprocess, generate=generate, samples=samples, reference=reference, batches=(1,)
    )


def _capture_task(door: _Door) -> Captured:
    """A model with the head that it came with."""
    model = door.export(door.task)
    name_dims(model.graph)
    reads = {str(value.name) for value in model.graph.inputs}
    modality: Modality = "tensors"
    preprocess = Preprocessing("tensors")
    if reads <= set(READS["text"]):
        modality, preprocess = door.text()
    elif reads == set(READS["image"]):
        modality, preprocess = "image", image_preprocessing(door.folder)
    fix_pixels(model.graph, preprocess.parameters or pixels_of(door.config))
    if "input_values" in reads:
        preprocess = sound_preprocessing(door.folder)
    return door.captured(model, modality, preprocess, labels=class_names(door.config, model.graph))


class _Door:
    """A source on its way in: where it lies, what it says of itself, and its graph."""

    def __init__(self, source: str, task: str, work: Path, sizes: Mapping[str, int]) -> None:
        self.source, self.task, self.work, self.sizes = source, task, work, sizes
        self.folder = resolve(source)
        self.config = read_json(self.folder, "config.json", required=True)
        self.sha256 = source_digest(self.folder)
        work.mkdir(parents=True, exist_ok=True)
        self.original = work / "original.onnx"

    def export(self, task: str, **options: Any) -> ir.Model:
        """The graph of a task."""
        raw_graph(self.folder, self.config, task, self.original, **options)
        return ir.load(self.original)

    def text(self) -> tuple[Modality, Preprocessing]:
        """How texts come in; as tensors where the source has no tokenizer."""
        if any((self.folder / name).is_file() for name in (*TOKENIZERS[:1], *VOCABULARIES)):
            return "text", text_preprocessing(self.folder, self.work)
        return "tensors", Preprocessing("tensors")

    def captured(
        self,
        model: ir.Model,
        modality: Modality,
        preprocess: Preprocessing,
        *,
        hidden: str | None = None,
        states: Sequence[StatePair] = (),
        labels: tuple[str, ...] = (),
        generate: Generate | None = None,
        samples: Samples | None = None,
        reference: Reference | None = None,
        batches: tuple[int, ...] | None = None,
        loss: Loss | None = None,
    ) -> Captured:
        """The record, after a look whether all weights are the source's own."""
        IdentityEliminationPass()(model)
        modules = name_weights(model)
        refuse_invented(model, modules, weight_names(self.folder), self.source)
        local = Path(self.source).expanduser().is_dir()
        names = symbols(model.graph)
        sizes = {name: self.sizes[name] for name in (*names, "sequence") if name in self.sizes}
        if "samples" in names:
            sizes.setdefault("samples", SAMPLES)
        if modality == "tensors" and "sequence" not in sizes and "sequence" in symbols(model.graph, ("batch",)):
            raise UsageError(
                f"expected the number of tokens that {self.source} reads, found none; say --size sequence=N"
            )
        return Captured(
            model=model,
            name=self.folder.resolve().name if local else self.source,
            task=self.task,
            source_sha256=self.sha256,
            modality=modality,
            hidden=hidden,
            preprocess=preprocess,
            original=self.original,
            modules=modules,
            states=tuple(states),
            sizes=sizes,
            batches=batches,
            labels=labels,
            generate=generate,
            samples=samples,
            reference=reference,
            loss=loss,
        )


def _checked(model: ir.Model, task: str, source: str) -> tuple[Literal["text", "image"], str]:
    """Modality and hidden output of a raw graph."""
    inputs = [str(value.name) for value in model.graph.inputs]
    modality: Literal["text", "image"] = "image" if "pixel_values" in inputs else "text"
    extra = [name for name in inputs if name not in READS[modality]]
    if extra or (modality == "text" and "attention_mask" not in inputs):
        wanted = "input_ids and attention_mask (and token_type_ids), or pixel_values"
        raise UnsupportedModel(f"expected an encoder that reads {wanted}, found {', '.join(inputs)} in {source}")
    if modality not in TASKS[task]:
        raise UnsupportedModel(
            f"expected a model that reads {TASKS[task][0]} for {task}, found one that reads {modality} in {source}; "
            "change the task or the model"
        )
    hidden = model.graph.outputs[0]
    if hidden.name != "last_hidden_state" or hidden.shape is None or len(hidden.shape) < 2:
        raise UnsupportedModel(
            "expected an encoder whose output is last_hidden_state, [batch, tokens, features] or [batch, channels, "
            f"height, width], found {hidden.name} {hidden.shape} in {source}"
        )
    return modality, str(hidden.name)
