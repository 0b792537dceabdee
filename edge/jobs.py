"""Jobs: a request in, a payload file and a result out. The same functions serve the worker and a simulation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError
from edge import summands
from edge.assemble import prefix, read_version
from edge.data import Data, Row, board_data
from edge.evaluate import right_rows, score_of
from edge.features import enough, statistics
from edge.fix import fix
from edge.perplexity import Judged
from edge.prove import prove
from edge.request import PROVE, Place, Request, Result, needed_rank, ranks
from edge.runner import Runner
from edge.split import work as split_work
from edge.split.channel import Channel
from edge.split.told import SETTING as SPLIT
from edge.split.told import TAIL
from edge.thin import sent_thin
from edge.train import TrainSettings, train
from edge.training.felt import tag_of
from edge.trunk import keep, trunk_of
from wire.adapter import Adapter, to_bytes
from wire.bundle import MANIFEST, Bundle, open_bundle
from wire.files import digest, read_bytes, write_atomic
from wire.inputs import at_ranks, places_of
from wire.kinds.head import ROWS, rows_text
from wire.manifest import LIMIT_BYTES, Manifest
from wire.masks.told import told_of
from wire.messages import Version
from wire.record import plain, read_record
from wire.scores import SCHEMA, Score, Scores
from wire.thin.table import NONE

Advance = Callable[[float, float], None]  # done, of


@dataclass
class Desk:
    """What a worker keeps between jobs: the checked bundle with its sessions.

    `channel` is that of a split job; `word` takes what such a job has to say before its end.
    """

    runner: Runner | None = None
    place: Place | None = None
    channel: Channel | None = None
    word: Callable[[str], None] = lambda text: None

    def at(self, place: Place) -> Runner:
        """The runner of a place.

        Raises:
            EdgequiltError: the bundle does not hold what it promises, or it is not the one that the core checked.
        """
        if self.runner is None or self.place != place:
            self.close()
            self.runner = Runner(checked_bundle(place), place.threads, frugal=True, providers=place.providers)
            self.place = place
            if place.cache_bytes and trunk_of(self.runner.manifest):
                keep(self.runner.chain, Path(place.cache), place.cache_bytes)
        return self.runner

    def close(self) -> None:
        """Close the sessions and the cache."""
        if self.runner is not None:
            self.runner.close()
            if self.runner.chain.trunk is not None:
                self.runner.chain.trunk.close()
        self.runner = None


def checked_bundle(place: Place) -> Bundle:
    """The bundle whose manifest has the digest that the core checked: no signature is needed beyond that.

    Raises:
        IntegrityError: it is another one.
    """
    manifest = Path(place.bundle) / MANIFEST
    if digest(read_bytes(manifest, "a bundle's manifest", LIMIT_BYTES)) != place.bundle_sha256:
        raise IntegrityError(
            f"expected in {place.bundle} the bundle that the agent started with, found another; restart the agent"
        )
    return open_bundle(Path(place.bundle), None)


def perform(desk: Desk, request: Request, advance: Advance = lambda done, of: None) -> Result:
    """Do a job and write its payload.

    Raises:
        EdgequiltError: why it cannot be done.
    """
    if request.kind == "mask":
        write_atomic(Path(request.out), summands.mask(request.settings), mode=0o600)
        return Result(request.id, 0)
    runner = desk.at(request.place)
    if request.kind == PROVE:
        return _prove(runner, request)
    if not request.versions:
        raise BadData(f"expected job {request.id} to name a version, found none")
    if request.kind == TAIL:
        start = adapter_of(request, 0, runner.manifest)
        return split_work.tail(runner, request, start, settings_of(request.settings), desk.channel, advance)
    data = rows_at(request.place, runner)
    if request.kind == "train" and request.settings.get(SPLIT):  # of an evaluation it says which rows
        settings = settings_of(request.settings)
        start = begun(request, settings, runner.manifest)
        payload, result = split_work.front(runner, request, start, settings, data, desk.channel, advance, desk.word)
    elif request.kind == "statistics" and request.settings.get(SPLIT):
        with split_work.afar(runner, request, data, desk.channel) as far:
            payload, result = _statistics(far, request, data, advance)
    else:
        payload, result = _JOBS[request.kind](runner, request, data, advance)
    write_atomic(Path(request.out), payload, mode=0o600)
    return result


def rows_at(place: Place, runner: Runner) -> Data:
    """The board's rows as they are now, with the labels that were corrected.

    Raises:
        BadData: they cannot be read.
    """
    corrections = Path(place.corrections) if place.corrections else None
    return board_data(Path(place.data), runner.manifest, place.holdout, corrections)


def adapter_of(request: Request, index: int, manifest: Manifest) -> Adapter:
    """The adapter of a version of the request, at the highest rank that the job needs; of the slots of the bundle."""
    rank = needed_rank(request.kind, request.settings, manifest.plan.rank)
    whole = read_version(Path(request.place.blobs), request.digests[index], request.versions[index], rank)
    return places_of(manifest, whole)


def begun(request: Request, settings: TrainSettings, manifest: Manifest) -> Adapter:
    """What a train job begins with: of every slot as much as the bundle's plan has room for.

    Where others make again what was learned, from numbers or by sums, all slots have the one rank that they expect.
    """
    alone = settings.trainer == "backprop" and settings.thin == NONE and settings.factors == "both"
    own = alone and told_of(request.settings) is None
    return at_ranks(manifest.plan, adapter_of(request, 0, manifest), own=own)


def _prove(runner: Runner, request: Request) -> Result:
    """That a bundle computes what it should, and that it takes the rows of this board where those are used."""
    difference, rows = prove(runner), 0
    if request.settings.get("data"):
        rows = len(rows_at(request.place, runner).train)
    return Result(request.id, rows, {"difference": difference})


def _train(runner: Runner, request: Request, data: Data, advance: Advance) -> tuple[bytes, Result]:
    _same_labels(runner, request.versions[0])
    settings = settings_of(request.settings)
    start = begun(request, settings, runner.manifest)
    done = train(runner, start, data.train, settings, lambda step, loss: advance(step, settings.steps), request.id)
    metrics = {
        "steps": done.session.at,
        "seconds_per_step": done.seconds_per_step,
        "loss_first": done.losses[0],
        "loss_last": done.losses[-1],
        "rank": done.adapter.rank,
        "undone": len(done.session.undone),
    }
    made, tag, told = done.adapter, _tag(request), told_of(request.settings)
    if told is not None:
        if done.directions is not None:
            vector = summands.of_scalars(done.directions, len(data.train), settings, told)
        else:
            vector = summands.of_training(made.lora, start.lora, len(data.train), settings, told)
        return vector, Result(request.id, len(data.train), metrics)
    if settings.head:
        labels = [row.label for row in data.train]
        tag[ROWS] = rows_text(np.bincount(labels, minlength=len(runner.manifest.labels)).tolist())
    tag |= tag_of(done.importance)
    brings_factors = "lora" in settings.kinds and settings.trainer == "backprop"
    update = Adapter(
        start.model,
        start.version,
        made.lora if brings_factors else {},
        made.bias if "bias" in settings.kinds else {},
        made.heads if settings.head else {},
        metadata=tag,
        scales=made.scales if settings.trainer == "qzo" else None,
        directions=done.directions,
    )
    if settings.thin != NONE and brings_factors:
        update = sent_thin(update, start, settings, Path(request.lost) if request.lost else None, Path(request.out))
    return to_bytes(update), Result(request.id, len(data.train), metrics)


def _statistics(runner: Runner, request: Request, data: Data, advance: Advance) -> tuple[bytes, Result]:
    _same_labels(runner, request.versions[0])
    own = runner.manifest.plan.rank
    adapter, wanted = adapter_of(request, 0, runner.manifest), ranks(request.kind, request.settings, own)
    minimum, seen = request.settings.get("minimum_per_class"), [0]
    rows = enough(data.train, minimum if isinstance(minimum, int) else 0)
    ready = runner.ready([r.sample for r in rows])

    def count(more: int) -> None:
        seen[0] += more
        advance(seen[0], len(rows) * len(wanted))

    found = {r: statistics(runner, prefix(adapter, r), rows, advance=count, ready=ready)[0] for r in wanted}
    told, classes = told_of(request.settings), max(int((sums.count > 0).sum()) for sums in found.values())
    result = Result(request.id, len(rows), {"classes": classes})
    if told is not None:
        return summands.of_statistics(found, told), result
    return to_bytes(Adapter(adapter.model, adapter.version, statistics=found, metadata=_tag(request))), result


def _evaluate(runner: Runner, request: Request, data: Data, advance: Advance) -> tuple[bytes, Result]:
    if told_of(request.settings) is not None:
        raise BadData("expected training or statistics for a sum under masks, found scores; nothing was computed")
    rows = data.all if request.settings.get("split") == "all" else data.holdout
    wanted = ranks(request.kind, request.settings, runner.manifest.plan.rank)
    if runner.manifest.loss is not None:
        return _judge(runner, request, rows, wanted, advance)
    scores, of = [], len(request.versions) * len(wanted)
    first: dict[int, NDArray[np.bool_]] = {}  # by rank: what the first version gets right
    ready = runner.ready([r.sample for r in rows])
    for index, version in enumerate(request.versions):
        _same_labels(runner, version)
        adapter = adapter_of(request, index, runner.manifest)
        for rank in wanted:
            right = right_rows(runner, prefix(adapter, rank), rows, ready=ready)
            paired = first.setdefault(rank, right)
            classes = len(runner.manifest.labels)
            scores.append(score_of(rows, right, request.digests[index], rank, classes, paired))
            advance(len(scores), of)
    return _told(request, scores), Result(request.id, len(rows), {"accuracy": [s.accuracy for s in scores]})


def _judge(
    runner: Runner, request: Request, rows: Sequence[Row], wanted: Sequence[int], advance: Advance
) -> tuple[bytes, Result]:
    """Of a decoder, the loss of its next tokens."""
    texts, scores, of = Judged(runner, rows), list[Score](), len(request.versions) * len(wanted)
    for index in range(len(request.versions)):
        adapter = adapter_of(request, index, runner.manifest)
        for rank in wanted:
            scores.append(texts.score(prefix(adapter, rank), request.digests[index], rank))
            advance(len(scores), of)
    losses = [0.0 if s.tokens is None else s.tokens.mean for s in scores]
    return _told(request, scores), Result(request.id, len(rows), {"loss": losses})


def _told(request: Request, scores: Sequence[Score]) -> bytes:
    """The job's name is inside: equal findings of two rounds must not be equal bytes, or one would not count."""
    return json.dumps(plain(Scores(SCHEMA, tuple(scores), {"job": request.id}))).encode()


def _fix(runner: Runner, request: Request, data: Data, advance: Advance) -> tuple[bytes, Result]:
    _same_labels(runner, request.versions[0])
    adapter = adapter_of(request, 0, runner.manifest)
    wanted = ranks(request.kind, request.settings, runner.manifest.plan.rank)
    payload, report = fix(runner, adapter, data, request.settings, wanted, request.id, advance)
    lost, rows = max(one.lost for one in report.at), report.rows
    metrics = {"rows": rows, "lost": lost, "right": sum(one.right for one in report.at), "ranks": len(report.at)}
    return payload, Result(request.id, rows, metrics)


_JOBS: dict[str, Callable[[Runner, Request, Data, Advance], tuple[bytes, Result]]] = {
    "train": _train,
    "statistics": _statistics,
    "evaluate": _evaluate,
    "fix": _fix,
}


def settings_of(given: dict[str, Any]) -> TrainSettings:
    """The settings of a train job; those that we do not know are left out.

    Raises:
        BadData: naming every setting that is wrong.
    """
    known = {k: v for k, v in given.items() if k in asdict(TrainSettings())}
    return read_record(TrainSettings, known, "the settings of the job")


def _same_labels(runner: Runner, version: Version) -> None:
    if version.labels and tuple(version.labels) != runner.manifest.labels:
        raise BadData(
            f"expected the labels of the bundle ({_few(runner.manifest.labels)}) in version {version.version}, found "
            f"others ({_few(version.labels)}); export the bundle again for these labels"
        )


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _tag(request: Request) -> dict[str, str]:
    return {"job": request.id, "round": str(request.round)}
