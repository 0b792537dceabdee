"""The one door for what devices learned: is the content of an update what its job asked for?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, join
from hub.making.model import Model
from hub.rounds.resting import moved
from hub.serving.asked import Asked, Replay
from wire.adapter import Adapter, read_adapter
from wire.fixes import KEY, Report, read_report
from wire.forward_gradients import job_board, job_key, rebuilt
from wire.kinds.head import ROWS, Statistics, read_rows
from wire.kinds.scales import ScaleFactors, problems_of
from wire.kinds.thin_file import Told
from wire.messages import Begin
from wire.scores import Score, read_scores
from wire.thin.coding import rebuilt as restored

FACTOR_LIMIT = 1e3  # of a scale: nothing that learned moves one further
PAIRS_LIMIT = 1 << 20
ENTRY_LIMIT = 1e6  # no trained factor has such an entry; beyond it the published float32 could overflow


def adapter_of(data: bytes, begin: Begin, model: Model, asked: Asked) -> Adapter:
    """What was trained: the kinds that the job asked for, every slot of LoRA, all of it finite.

    Raises:
        BadData: saying everything that is wrong.
    """
    adapter, problems = _open(data, begin, model)
    if adapter.thin is not None:
        adapter, thinned = _whole(adapter, adapter.thin.told, model, asked, begin.base)
        problems += thinned
    if asked.replay is not None:
        adapter, replayed = _rebuilt(adapter, begin, model, asked, asked.replay)
        problems += replayed
    elif adapter.directions is not None:
        problems.append("pairs along directions were not asked for")
    if adapter.statistics or (adapter.heads and not asked.head):
        problems.append(f"expected {join(list(asked.kinds))} only, found another kind")
    problems += _lora_problems(adapter, model, asked) or _moved(adapter, asked, begin.base)
    problems += _bias_problems(adapter, model, asked)
    problems += _scale_problems(adapter, model, asked)
    problems += _head_problems(adapter, begin, model) if asked.head else []
    if begin.samples < 1:
        problems.append("it was trained on no sample")
    return _raise(adapter, problems, begin)


def _whole(adapter: Adapter, told: Told, model: Model, asked: Asked, base: str) -> tuple[Adapter, list[str]]:
    """What a thin update says, on top of what was sent; or what is wrong with it."""
    if told.codec != asked.thin:
        return adapter, [f"it is thin by {told.codec} instead of {asked.thin}"]
    if not 1 <= told.rank <= asked.rank:
        return adapter, [f"it has rank {told.rank}, the hub keeps 1 to {asked.rank}"]
    if adapter.lora or adapter.bias or adapter.heads:
        return adapter, ["it is thin and whole at once"]
    sent = asked.began(base, told.rank)  # not the version that the file names: nobody has to know that one
    zeros = {name: np.zeros(size, np.float32) for name, size in model.biases}
    try:
        return restored(adapter, replace(sent, bias={**zeros, **sent.bias})), []
    except BadData as error:
        return adapter, [str(error)]


def _rebuilt(adapter: Adapter, begin: Begin, model: Model, asked: Asked, replay: Replay) -> tuple[Adapter, list[str]]:
    """The factors that pairs make, bit for bit those of the board; or what is wrong with the pairs."""
    if adapter.directions is None or adapter.lora:
        return adapter, ["expected pairs along directions and no factors"]
    told, pairs, problems = adapter.directions.told, adapter.directions.pairs, []
    if told.per_step != replay.per_step or len(pairs) > replay.steps * replay.per_step:
        problems.append(
            f"it has {len(pairs)} pairs, {told.per_step} a step, instead of {replay.steps} steps of {replay.per_step}"
        )
    if [counter for counter, _ in pairs] != list(range(len(pairs))):
        problems.append("its counters are not 0, 1, 2 and so on")
    if max(abs(scalar) for _, scalar in pairs) > ENTRY_LIMIT:
        problems.append(f"it has derivatives above {ENTRY_LIMIT:g}")
    if told.rank > asked.rank:
        problems.append(f"it has rank {told.rank}, the hub keeps 1 to {asked.rank}")
    if problems:
        return adapter, problems
    began = asked.began(begin.base, told.rank).lora
    key, board = job_key(model.id, begin.base), job_board(begin.job)
    made = rebuilt(began, adapter.directions.steps(), key, board, replay.optimizer)
    wild = [n for n, w in made.items() if not (np.isfinite(w.a).all() and np.isfinite(w.b).all())]
    return replace(adapter, lora=made, directions=None), [f"slot {name} runs away" for name in wild]


def _lora_problems(adapter: Adapter, model: Model, asked: Asked) -> list[str]:
    if "lora" not in asked.kinds:
        return [f"slot {name} was not asked for" for name in adapter.lora]
    shapes = {s.name: (s.features_in, s.features_out) for s in model.slots if s.name in asked.slots_of(model)}
    whose = "the model's" if asked.slots is None else "those that were asked of it"
    problems = [f"slot {name} is not one of {whose}" for name in adapter.lora if name not in shapes]
    for name, (rows, columns) in shapes.items():
        factors = adapter.lora.get(name)
        if factors is None:
            problems.append(f"slot {name} is missing")
        elif (factors.a.shape[0], factors.b.shape[1]) != (rows, columns):
            found = (factors.a.shape[0], factors.b.shape[1])
            problems.append(f"slot {name} is [{found[0]}, {found[1]}] instead of [{rows}, {columns}]")
        elif not 1 <= factors.rank <= asked.rank:
            problems.append(f"slot {name} has rank {factors.rank}, the hub keeps 1 to {asked.rank}")
        elif max(_largest(factors.a), _largest(factors.b), abs(factors.scale)) > ENTRY_LIMIT:
            problems.append(f"slot {name} has entries above {ENTRY_LIMIT:g}")
    return problems


def _moved(adapter: Adapter, asked: Asked, base: str) -> list[str]:
    """Of right factors, those that were to rest and did not."""
    if asked.factors == "both" or not adapter.lora:
        return []
    return moved(adapter.lora, asked.start(base, adapter.rank).lora, asked.factors)


def _bias_problems(adapter: Adapter, model: Model, asked: Asked) -> list[str]:
    """A board brings the biases that it has places for; what it leaves out stays as it was sent."""
    if "bias" not in asked.kinds:
        return [f"the bias of {name} was not asked for" for name in adapter.bias]
    sizes, problems = dict(model.biases), []
    for name, delta in adapter.bias.items():
        if name not in sizes:
            problems.append(f"the bias of {name} is not one of the model's")
        elif delta.shape != (sizes[name],):
            problems.append(f"the bias of {name} is {list(delta.shape)} instead of [{sizes[name]}]")
        elif _largest(delta) > ENTRY_LIMIT:
            problems.append(f"the bias of {name} has entries above {ENTRY_LIMIT:g}")
    if not adapter.bias and "lora" not in asked.kinds:
        problems.append("it brings no bias")
    return problems


def _scale_problems(adapter: Adapter, model: Model, asked: Asked) -> list[str]:
    """Factors belong to a format and to stored bytes; shapes are looked at before anything is made of them."""
    if "scales" not in asked.kinds:
        return ["moved scales were not asked for"] if adapter.scales is not None else []
    return ["it moves no scales"] if adapter.scales is None else scale_problems(adapter.scales, model)


def scale_problems(scales: ScaleFactors, model: Model) -> list[str]:
    """What is wrong with moved scales for a model."""
    problems = problems_of(scales, model.scales)
    replay = scales.replay
    if replay is not None and len(replay.pairs) > PAIRS_LIMIT:
        problems.append(f"its scales come of {len(replay.pairs)} pairs, more than {PAIRS_LIMIT}")
    if problems:
        return problems
    return [
        f"the factors of {weight} are not all from {1 / FACTOR_LIMIT:g} to {FACTOR_LIMIT:g}"
        for weight, f in scales.factors.items()
        if not bool(((f >= 1 / FACTOR_LIMIT) & (f <= FACTOR_LIMIT)).all())
    ]


def _head_problems(adapter: Adapter, begin: Begin, model: Model) -> list[str]:
    classes = len(model.labels)
    if len(adapter.heads) != 1:
        return [f"expected one head, found {len(adapter.heads)}"]
    head, problems = next(iter(adapter.heads.values())), []
    if head.weight.shape != (model.features, classes):
        problems.append(f"the head is {list(head.weight.shape)} instead of [{model.features}, {classes}]")
    if max(_largest(head.weight), _largest(head.bias)) > ENTRY_LIMIT:
        problems.append(f"the head has entries above {ENTRY_LIMIT:g}")
    rows = read_rows(adapter.metadata.get(ROWS, ""))
    if rows is None or len(rows) != classes or sum(rows) != begin.samples:
        problems.append(f"it does not say of which of the {classes} classes its {begin.samples} rows are")
    return problems


def _largest(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max(initial=0.0))


def statistics_of(data: bytes, begin: Begin, model: Model, ranks: tuple[int, ...]) -> dict[int, Statistics]:
    """The sums of an update of kind `statistics`: at every rank of the job, and no other.

    Raises:
        BadData: saying everything that is wrong.
    """
    adapter, problems = _open(data, begin, model)
    if adapter.lora or adapter.bias or adapter.heads or adapter.scales:
        problems.append("expected statistics only, found another kind")
    found = adapter.statistics
    if set(found) != set(ranks):
        problems.append(f"statistics are of ranks {sorted(found)} instead of {sorted(ranks)}")
    for rank, sums in found.items():
        shape, wanted = sums.sum.shape, (len(model.labels), model.features)
        if shape != wanted:
            problems.append(f"sums of rank {rank} are [{shape[0]}, {shape[1]}] instead of [{wanted[0]}, {wanted[1]}]")
        if (np.diagonal(sums.gram) < 0).any():
            problems.append(f"the Gram matrix of rank {rank} has a negative diagonal")
        if sums.sum[sums.count == 0].any():
            problems.append(f"a class without rows has a sum at rank {rank}")
    _raise(adapter, problems, begin)
    return found


def edit_of(data: bytes, begin: Begin, model: Model, ranks: tuple[int, ...]) -> Report:
    """The report of an update of kind `edit`: an edit of the heads at every rank of the job, and nothing else.

    Raises:
        BadData: saying everything that is wrong.
    """
    adapter, problems = _open(data, begin, model)
    if adapter.lora or adapter.bias or adapter.heads or adapter.scales or adapter.statistics:
        problems.append("expected an edit only, found another kind")
    report = read_report(adapter.metadata.get(KEY), f"the edit of {begin.sender.device}")
    found = {"edits": set(adapter.edits), "what it reports": {one.rank for one in report.at}}
    problems += [
        f"{what} are of ranks {sorted(of)}, not {sorted(ranks)}" for what, of in found.items() if of != set(ranks)
    ]
    for rank, edit in adapter.edits.items():
        shape, wanted = (edit.a.shape[0], edit.b.shape[1]), (model.features, len(model.labels))
        if shape != wanted:
            problems.append(f"the edit of rank {rank} is {list(shape)} instead of {list(wanted)}")
        if max(_largest(edit.a), _largest(edit.b)) > ENTRY_LIMIT:
            problems.append(f"the edit of rank {rank} has entries above {ENTRY_LIMIT:g}")
    _raise(adapter, problems, begin)
    return report


def scores_of(data: bytes, begin: Begin, model: Model, versions: tuple[str, ...]) -> list[Score]:
    """The scores of an update of kind `scores`: every version of the job, and no other.

    Raises:
        BadData: saying everything that is wrong.
    """
    where = f"the scores of {begin.sender.device}"
    scores = read_scores(data, len(model.labels), where)
    found = {s.version for s in scores}
    if found != set(versions):
        names = [f"version {v[:12]} is missing" for v in versions if v not in found]
        names += [f"version {v[:12]} was not asked for" for v in found if v not in versions]
        raise BadData(f"expected scores of {len(versions)} versions in {where}, but {join(names)}; it was refused")
    return scores


def check(data: bytes, begin: Begin, model: Model, asked: Asked) -> None:
    """Let an update of any kind in, or say why not.

    Args:
        data: the payload.
        begin: what it was announced as.
        model: what it must belong to.
        asked: by the jobs of its round.

    Raises:
        BadData: saying everything that is wrong.
    """
    if begin.kind in ("adapter", "tail"):
        adapter_of(data, begin, model, asked)
    elif begin.kind == "statistics":
        statistics_of(data, begin, model, asked.ranks)
    elif begin.kind == "edit":
        edit_of(data, begin, model, asked.ranks)
    else:
        scores_of(data, begin, model, asked.versions)


def _open(data: bytes, begin: Begin, model: Model) -> tuple[Adapter, list[str]]:
    adapter = read_adapter(data, f"the update of {begin.sender.device}")
    problems = []
    if adapter.model != model.id:
        problems.append(f"it belongs to model {adapter.model[:63]!r} instead of {model.id}")
    if adapter.version != begin.base:
        problems.append(
            f"it says that it started from version {adapter.version[:12]!r}, its envelope says {begin.base[:12]}"
        )
    return adapter, problems


def _raise(adapter: Adapter, problems: list[str], begin: Begin) -> Adapter:
    if problems:
        raise BadData(
            f"expected what {begin.job} asked for from {begin.sender.device}, but {join(problems)}; it was refused"
        )
    return adapter
