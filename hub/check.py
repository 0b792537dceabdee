"""The one door for what devices learned: is the content of an update what its job asked for?"""

from __future__ import annotations

import numpy as np

from console.errors import BadData, join
from hub.model import Model
from wire.adapter import Adapter, read_adapter
from wire.kinds.head import Statistics
from wire.messages import Begin
from wire.scores import Score, read_scores

ENTRY_LIMIT = 1e6  # no trained factor has such an entry; beyond it the published float32 could overflow


def adapter_of(data: bytes, begin: Begin, model: Model, rank: int) -> Adapter:
    """The factors of an update of kind `adapter`: every slot, at most `rank` directions, finite.

    Raises:
        BadData: saying everything that is wrong.
    """
    adapter, problems = _open(data, begin, model)
    if adapter.heads or adapter.statistics or adapter.bias or adapter.scales:
        problems.append("expected LoRA factors only, found another kind")
    shapes = {s.name: (s.features_in, s.features_out) for s in model.slots}
    problems += [f"slot {name} is not one of the model's" for name in adapter.lora if name not in shapes]
    for name, (rows, columns) in shapes.items():
        factors = adapter.lora.get(name)
        if factors is None:
            problems.append(f"slot {name} is missing")
        elif (factors.a.shape[0], factors.b.shape[1]) != (rows, columns):
            found = (factors.a.shape[0], factors.b.shape[1])
            problems.append(f"slot {name} is [{found[0]}, {found[1]}] instead of [{rows}, {columns}]")
        elif not 1 <= factors.rank <= rank:
            problems.append(f"slot {name} has rank {factors.rank}, the hub keeps 1 to {rank}")
        elif max(np.abs(factors.a).max(), np.abs(factors.b).max(), abs(factors.scale)) > ENTRY_LIMIT:
            problems.append(f"slot {name} has entries above {ENTRY_LIMIT:g}")
    if begin.samples < 1:
        problems.append("it was trained on no sample")
    return _raise(adapter, problems, begin)


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


def check(
    data: bytes, begin: Begin, model: Model, rank: int, versions: tuple[str, ...], ranks: tuple[int, ...]
) -> None:
    """Let an update of any kind in, or say why not.

    Args:
        data: the payload.
        begin: what it was announced as.
        model: what it must belong to.
        rank: the hub's.
        versions: those that the job named.
        ranks: those of a statistics job.

    Raises:
        BadData: saying everything that is wrong.
    """
    if begin.kind == "adapter":
        adapter_of(data, begin, model, rank)
    elif begin.kind == "statistics":
        statistics_of(data, begin, model, ranks)
    else:
        scores_of(data, begin, model, versions)


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
