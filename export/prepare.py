"""A captured model with slots and head, frozen for the micro-batches that a plan may choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from console.errors import DoesNotFit, UsageError
from devices.enough import KnownBoard
from devices.plan import MICRO_BATCHES, Board, Decision, costs_nothing, fewest_cuts, plan, with_budget
from export import feeds
from export.activations.given import Calibration
from export.begin import begin_with_zeros
from export.buckets import allowed
from export.capture import capture
from export.choice.assign import formats_of, spent
from export.cost import Cost, cost
from export.drawn import draw_inputs, fitted, zeros_of
from export.features import ODD_BATCH, Features, find_features
from export.fold import FLOATS, OPSET, freeze
from export.formats.grid import Grid
from export.formats.registry import ACTIVATIONS, FLOAT32
from export.formats.rewrite import weights_of
from export.formats.stock import Stock
from export.head import HeadSite, append_head
from export.legal import uncuttable
from export.output_parts import PART_BYTES, split_output
from export.recurrent.unroll import recurrent_nodes, unroll
from export.sample import check_sample
from export.scales import refuse_rounded
from export.slots import SlotSite, insert_slots
from export.sources.captured import REAL_SEED, Captured, Values
from export.table_files import TableFile, kept_tables
from export.tables_out import Taken, take_out
from export.targets import layers
from export.verify import original_runs, pooled_features

DECODES = "text-generation"
ANSWERS = ("text2text-generation", "automatic-speech-recognition", "image-to-text")
STATE_RUNS = 3  # so that what one run leaves is what the next one reads, twice


@dataclass(frozen=True)
class Wanted:
    """What a user asks of a model: where it is, and what is put into it.

    Attributes:
        source: see `export.capture.capture`.
        task: as optimum names tasks; not needed for ONNX files and torch modules.
        classes: of a head that is put on; 0 for the model's own outputs.
        sequence: tokens of a text.
        targets: which layers get a slot, see `insert_slots`; empty for none.
        kinds: which kinds of slots they get.
        serve_graph: whether segments with slots also get a graph without; None for where there is training.
        scale_inputs: whether segments also get a graph whose quantization scales can be moved.
        sizes: of symbolic dimensions, by name.
        states: outputs by the input that they are fed to at the next run, of an ONNX file.
        sample: real input to verify with, by name.
        keep: formats of weights by patterns of their names.
        grid: settings of formats.
        tables_out: whether large embedding tables leave the graph.
        calibration: what the ranges of activations are found on, for "int8-static".
        part_bytes: of a decoder's output layer, above which one that is trained is in parts (`output_parts`).
        features: the output that a head goes on, and `features_axis` the axis of its features; see
            `export.features.find_features`.
        train_activations: "int8" rounds those of the forward half of backward graphs (`export.activations.half`).
        micro_batches: the plan's is one of them, and smaller ones get buckets of their own; empty: the plan's only.
        shorter: tokens of shorter texts, which get buckets of their own.
    """

    source: str
    task: str = ""
    classes: int = 0
    sequence: int | None = None
    targets: str = "auto"
    kinds: tuple[str, ...] = ("lora",)
    serve_graph: bool | None = None
    scale_inputs: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    sample: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    grid: Grid = field(default_factory=Grid)
    tables_out: bool = False
    calibration: Calibration | None = None
    features: str = ""
    features_axis: int | None = None
    train_activations: str = FLOAT32
    micro_batches: tuple[int, ...] = ()
    shorter: tuple[int, ...] = ()
    part_bytes: int = PART_BYTES


@dataclass
class Prepared:
    """What all boards of an export share. Graphs and numbers are made when they are first asked for."""

    captured: Captured
    sites: list[SlotSite]
    head: HeadSite | None
    classes: int
    sequence: int | None
    formats: tuple[str, ...]
    opset: int = OPSET
    serve_graph: bool | None = None
    scale_inputs: bool = False
    tables_out: bool = False
    stock: Stock = field(default_factory=Stock)
    keep: Mapping[str, str] = field(default_factory=dict)
    work: Path | None = None
    errors: Mapping[str, Mapping[str, float]] | None = None
    kept_tables: Mapping[str, str] = field(default_factory=dict)
    table_files: dict[str, TableFile] = field(default_factory=dict)
    calibration: Calibration | None = None
    features: Features | None = None
    train_activations: str = FLOAT32
    micro_batches: tuple[int, ...] = ()
    shorter: tuple[int, ...] = ()
    back_from: int = 0
    _at: dict[int | None, Prepared] = field(default_factory=dict)
    _whole: dict[int, ir.Model] = field(default_factory=dict)
    _frozen: dict[int, tuple[ir.Model, Taken]] = field(default_factory=dict)
    _costs: dict[tuple[int, str], Cost] = field(default_factory=dict)

    @property
    def batches(self) -> tuple[int, ...]:
        """Micro-batches that may be chosen, the largest first."""
        able = self.captured.batches
        if self.micro_batches:
            return self.micro_batches
        return MICRO_BATCHES if able is None else tuple(sorted(able, reverse=True))

    def at(self, sequence: int | None) -> Prepared:
        """The same for texts of another length."""
        if sequence == self.sequence:
            return self
        if sequence not in self._at:
            own: dict[str, Any] = {"_at": {}, "_whole": {}, "_frozen": {}, "_costs": {}}
            self._at[sequence] = replace(self, sequence=sequence, shorter=(), **own)
        return self._at[sequence]

    def behind(self, unit: int) -> Prepared:
        """The same where gradients come back to this unit and no further: what lies before it runs forward only."""
        return replace(self, back_from=unit, _at={}, _costs={})

    def serves(self, mode: str) -> bool:
        """Whether segments with slots get a graph without them as well: the only one with integer activations."""
        if self.serve_graph is not None:
            return self.serve_graph
        return mode != "serve" or any(quant in ACTIVATIONS for quant in self.formats)

    def whole(self, batch: int) -> ir.Model:
        """The model for a micro-batch as it is fed from outside, with every table in it."""
        if batch not in self._whole:
            captured = self.captured
            self._whole[batch] = freeze(captured.model, batch, self.sequence, captured.sizes)
        return self._whole[batch]

    def frozen(self, batch: int) -> ir.Model:
        """The model for a micro-batch as it is cut and run; tables that are out are inputs for their rows."""
        return self._split(batch)[0]

    def taken(self, batch: int) -> Taken:
        """The tables that are out of it."""
        return self._split(batch)[1]

    def _split(self, batch: int) -> tuple[ir.Model, Taken]:
        if not self.tables_out:
            return self.whole(batch), Taken()
        if batch not in self._frozen:
            model = self.whole(batch).clone()
            self._frozen[batch] = (model, take_out(model))
        return self._frozen[batch]

    def cost(self, batch: int, mode: str) -> Cost:
        """Its numbers for the planner."""
        if (batch, mode) not in self._costs:
            states = {pair.input: pair.output for pair in self.captured.states}
            formats = {name: formats_of(self, name) for name in self.formats}
            model, back = self.frozen(batch), self.back_from
            self._costs[batch, mode] = cost(model, batch, mode, formats, self.stock.grid, states, back)
        return self._costs[batch, mode]

    def samples(self, batch: int, seed: int | None) -> list[dict[str, NDArray[Any]]]:
        """Inputs of some runs in order, without states: drawn from a seed, or as real as can be where it is None.

        A model without state has one run, one with state several.
        """
        captured, graph = self.captured, self.whole(batch).graph
        if captured.samples is not None:
            return list(captured.samples(batch, self.sequence, seed))
        if captured.modality != "tensors":
            made = feeds.inputs_for(captured.preprocess, batch, self.sequence, seed)
            return [{**made, **self._given(graph, seed)}]
        states = [pair.input for pair in captured.states]
        first = REAL_SEED if seed is None else seed
        runs = [draw_inputs(graph, first + run, states) for run in range(STATE_RUNS if states else 1)]
        return [{**run, **self._given(graph, seed)} for run in runs]

    def _given(self, graph: ir.Graph, seed: int | None) -> dict[str, NDArray[Any]]:
        """What the source or the user gave as real input, where real input is asked for."""
        return fitted(self.captured.sample, graph) if seed is None else {}

    def states(self, batch: int) -> dict[str, NDArray[Any]]:
        """Every state before the first run."""
        return zeros_of(self.whole(batch).graph, [pair.input for pair in self.captured.states])

    def reference(self, runs: list[dict[str, NDArray[Any]]], states: dict[str, NDArray[Any]]) -> list[Values]:
        """What the original computes, by the names of our outputs; features of a head are pooled by numpy."""
        captured = self.captured
        if captured.reference is not None:
            found = list(captured.reference(runs))
        else:
            pairs = [(pair.input, pair.output) for pair in captured.states]
            found = original_runs(captured.original, runs, pairs, states)
        if self.head is None or self.features is None:
            return found
        name, axis = self.features.name, self.features.axis
        return [
            {self.head.features_output: pooled_features(values[name], run, axis)}
            for values, run in zip(found, runs, strict=True)
        ]

    @property
    def judged(self) -> list[str]:
        """Outputs by which the loss of quantization is judged: features of a head, else every float output."""
        if self.head is not None:
            return [self.head.features_output]
        states = {pair.output for pair in self.captured.states}
        outputs = self.frozen(self.batches[-1]).graph.outputs
        return [str(v.name) for v in outputs if v.dtype in FLOATS and v.name not in states]

    def decide(self, board: Board, known: Sequence[KnownBoard] | None = None) -> tuple[Decision, tuple[int, ...]]:
        """The plan of a board, and its cuts as node positions.

        With trunk "auto" the one whose trunk is apart, where that is at most one segment more, with the same
        micro-batch and no more memory.

        Raises:
            DoesNotFit, NoGradientRule, UsageError: see `_decide`.
        """
        if board.trunk != "auto":
            return self._decide(board, known)
        plain = self._decide(replace(board, trunk="within"), known)
        with suppress(DoesNotFit, UsageError):
            apart = self._decide(replace(board, trunk="apart"), known)
            if costs_nothing(apart[0], plain[0]):
                return apart
        return plain

    def _decide(self, board: Board, known: Sequence[KnownBoard] | None) -> tuple[Decision, tuple[int, ...]]:
        """The same for a trunk that is apart or not.

        `devices.plan` over the numbers of each micro-batch's own graph: parts that do not grow with the batch
        are then counted as they are. `known` are boards that a refusal may name.

        Raises:
            DoesNotFit: no cut fits at any micro-batch.
            NoGradientRule: mode "train", and an operator cannot be differentiated.
            UsageError: the trunk is to be apart, and there is none.
        """
        best: Decision | None = None
        ranked = with_budget(board, board.budget_bytes)
        for batch in self.batches:
            units = self.cost(batch, board.mode).units
            if fewest_cuts(units, ranked, batch) is None:
                continue
            decision = plan(units, board, (batch,))
            if best is None or len(decision.cuts) < len(best.cuts):
                best = decision
            if not decision.cuts:
                break
        if best is None:
            raise self._refusal(board, known)
        numbers = self.cost(best.micro_batch, board.mode)
        return spent(self, board, best), numbers.nodes(best.cuts)

    def _refusal(self, board: Board, known: Sequence[KnownBoard] | None) -> DoesNotFit:
        """The planner's words for the smallest micro-batch, and why there are few cuts if that is why."""
        smallest = self.batches[-1]
        try:
            plan(self.cost(smallest, board.mode).units, board, (smallest,), known=known)
        except DoesNotFit as refusal:
            reason = uncuttable(self.frozen(smallest).graph)
            return DoesNotFit(f"{refusal}; {reason}") if reason else refusal
        raise AssertionError("fewest_cuts and plan disagree")


def prepare(request: Wanted, formats: tuple[str, ...], modes: tuple[str, ...], work: Path) -> Prepared:
    """Capture a model and put slots, and a head where there are labels, into it.

    Raises:
        UsageError: the sequence is longer than the model can place, or there is nothing that could learn.
        UnsupportedModel, MissingDependency: see `capture`, `insert_slots`, `find_features` and `unroll`.
        BadData: the sample does not fit.
    """
    if request.scale_inputs:
        refuse_rounded(formats)
    own_head = not request.classes
    trained = own_head and _trained(request, modes)
    captured = capture(
        request.source, request.task, work, request.sizes, request.states, own_head=own_head, trained=trained
    )
    sequence = _sequence(captured, request.sequence)
    features = _features(captured, request, sequence)
    captured = captured if features is None else begin_with_zeros(captured)
    if captured.loss is not None and captured.generate is not None:
        sequence = captured.generate.context if sequence is None else sequence
        captured = replace(captured, generate=replace(captured.generate, context=sequence))
    if "train" in modes and recurrent_nodes(captured.model.graph):
        batch = ODD_BATCH if captured.batches is None else captured.batches[0]
        unroll(captured.model, freeze(captured.model, batch, sequence, captured.sizes))
    toward = "" if features is None or "train" not in modes else features.name
    bare = _without_slots(captured, request)
    sites = [] if bare else insert_slots(captured.model, request.targets, request.kinds, toward)
    head = None if features is None else append_head(captured.model, features, request.classes)
    if captured.loss is not None:
        parts = split_output(captured.model, captured.loss.logits, request.part_bytes)
        known = captured.modules
        captured = replace(captured, modules=known | {p: known[w] for p, w in parts.items() if w in known})
    prepared = Prepared(
        captured,
        sites,
        head,
        request.classes,
        sequence,
        formats,
        serve_graph=request.serve_graph,
        scale_inputs=request.scale_inputs,
        stock=Stock(request.grid),
        keep=request.keep,
        work=work,
        tables_out=request.tables_out,
        calibration=request.calibration,
        features=features,
        train_activations=request.train_activations,
        micro_batches=allowed(request.micro_batches, captured.batches),
        shorter=_shorter(captured, request, sequence),
    )
    if request.tables_out and request.keep:
        smallest = prepared.batches[-1]
        inside = [weight.name for weight in weights_of(prepared.frozen(smallest))]
        prepared.kept_tables, prepared.keep = kept_tables(prepared.taken(smallest).sources, request.keep, inside)
    return _with_sample(prepared, request.sample) if request.sample else prepared


def _features(captured: Captured, request: Wanted, sequence: int | None) -> Features | None:
    """Where the head goes; None without one.

    Raises:
        UsageError: an output is named, and there are no classes.
    """
    if request.classes:
        return find_features(captured, sequence, request.features, request.features_axis)
    if request.features or request.features_axis is not None:
        raise UsageError("expected --features beside --labels or --data, found no classes; a head goes on it")
    return None


def _trained(request: Wanted, modes: tuple[str, ...]) -> bool:
    """Whether a model without a head of ours is to learn: a decoder can, by the next token of its texts.

    Raises:
        UsageError: another model, or one that is to serve on some boards and to learn on others.
    """
    learning = [mode for mode in modes if mode != "serve"]
    if not learning:
        return False
    if request.task.removesuffix("-with-past") in ANSWERS:
        raise UsageError(
            f"expected --mode serve for a model that answers a source ({request.task}), found {learning[0]}; a decoder "
            "(text-generation) learns by its next token"
        )
    if request.task.removesuffix("-with-past") != DECODES:
        raise UsageError(
            f"expected --mode serve for a model with its own outputs, found {learning[0]}; give --labels for a head "
            "that learns"
        )
    if len(learning) < len(modes):
        raise UsageError(
            f"expected one mode for all boards of a decoder, found serve and {learning[0]}: one takes a token a run, "
            "the other whole texts; export them apart, their adapters are the same"
        )
    return True


def _with_sample(prepared: Prepared, sample: Mapping[str, NDArray[Any]]) -> Prepared:
    """The same, verified with real input.

    Raises:
        UsageError: of a model that generates: its inputs are prompts, one after the other.
        BadData: the arrays do not fit the inputs.
    """
    captured = prepared.captured
    if captured.samples is not None:
        raise UsageError(f"expected no --sample for {captured.name}, which generates; it is verified with prompts")
    whole = prepared.whole(prepared.batches[-1]).graph
    check_sample(sample, whole, tuple(pair.input for pair in captured.states))
    prepared.captured = replace(captured, sample=sample)
    return prepared


def _without_slots(captured: Captured, request: Wanted) -> bool:
    """Whether there are no slots: none are asked for, or a model that only serves has no layer that could take one."""
    return not request.targets or (request.targets == "auto" and not request.classes and not layers(captured.model))


def _sequence(captured: Captured, sequence: int | None) -> int | None:
    """The tokens of a text; None for a model that reads none.

    Raises:
        UsageError: more than it can place.
    """
    if captured.modality != "text":
        return None
    longest = captured.preprocess.parameters.get("max_length")
    if sequence is not None and longest is not None and not 1 <= sequence <= longest:
        raise UsageError(f"expected a --sequence of 1 to {longest} tokens for this model, found {sequence}")
    return sequence


def _shorter(captured: Captured, request: Wanted, sequence: int | None) -> tuple[int, ...]:
    """Lengths of shorter texts, the longest first.

    Raises:
        UsageError: the model reads no texts.
    """
    if request.shorter and sequence is None:
        raise UsageError(f"expected one --sequence for {captured.name}, which reads no texts, found several")
    return tuple(sorted((n for n in set(request.shorter) if n != sequence), reverse=True))
