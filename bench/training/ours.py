"""Our side in a process of its own: `python -m bench.training.ours BUNDLE GIVEN.npz [--memory]`.

Imports what a worker imports and runs what its train job runs: gradients of the bundle's backward graph, summed
micro-batch by micro-batch, then AdamW in numpy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.worker import hash_without_openssl

hash_without_openssl()  # before anything else imports hashlib, as in a worker

import numpy as np  # see above, as are all that follow

import edge.jobs  # noqa: F401  # all that a worker has imported before its first job
from bench.training.given import RATE, SCALE, Array, read
from bench.training.turns import Step, serve
from edge.feeds import training_bucket
from edge.gradients import Gradients
from edge.runner import Ready, Runner
from edge.text import Tokens
from wire.adamw import AdamW, Hyperparameters
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.inputs import inputs_of
from wire.kinds.head import Head
from wire.kinds.lora import Lora


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("given", type=Path)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    serve(lambda: made(options.bundle, read(options.given)), memory=options.memory)
    return 0


def made(bundle: Path, given: dict[str, Array]) -> Step:
    """A bundle's training step over all rows that are given."""
    runner = Runner(open_bundle(bundle, None), 1, frugal=True)
    manifest = runner.manifest
    factors = {s.name: Lora(given[f"{s.module}.A"], given[f"{s.module}.B"], SCALE) for s in manifest.slots_of("lora")}
    slots = {s.name: s for s in manifest.slots_of("lora")}
    parameters = {slots[n].a: lora.a for n, lora in factors.items()}
    parameters |= {slots[n].b: lora.b for n, lora in factors.items()}
    optimizer = AdamW(Hyperparameters(RATE))
    if manifest.loss is not None:
        return _of_tokens(runner, Adapter(manifest.model.id, lora=factors), parameters, optimizer, given["ids"])
    weight, labels = given["head.weight"], given["labels"]
    head, place = Head(weight, np.zeros(weight.shape[1], np.float32)), runner.head
    adapter = Adapter(manifest.model.id, lora=factors, heads={next(iter(factors.values())).rank: head})
    parameters |= {place.weight: head.weight, place.bias: head.bias}
    count = np.float32(len(labels))
    ids = given["ids"].astype(np.int32)
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    ready = Ready(training_bucket(manifest), Tokens({t.name: arrays[t.name] for t in manifest.inputs}))
    chosen = list(enumerate(labels.tolist()))

    def step() -> float:
        sums = runner.gradients(ready, adapter, chosen)
        optimizer.step(parameters, {name: sums.by_input[name] / count for name in parameters})
        return sums.loss / len(labels)

    return step


def _of_tokens(runner: Runner, adapter: Adapter, parameters: dict[str, Array], optimizer: AdamW, ids: Array) -> Step:
    """A decoder's: every token but the first of a row is predicted; the mean over all of them."""
    bucket, labels = training_bucket(runner.manifest), np.full(ids.shape, -100, np.int64)
    labels[:, :-1] = ids[:, 1:]
    count = int((labels >= 0).sum())
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": places}
    fed = {t.name: arrays[t.name] for t in runner.manifest.inputs}
    batches = []
    for start in range(0, len(ids), bucket.batch):
        part = slice(start, start + bucket.batch)
        weights = np.ones(labels[part].size, np.float32)
        batch = {name: np.ascontiguousarray(array[part]) for name, array in fed.items()}
        batches.append({**batch, "labels": labels[part].ravel(), "weights": weights})

    def step() -> float:
        shared, sums = inputs_of(runner.manifest, adapter), Gradients()
        for batch in batches:
            sums.merge(runner.chain.gradients([batch], bucket.name, shared))
        optimizer.step(parameters, {name: sums.by_input[name] / np.float32(count) for name in parameters})
        return sums.loss / count

    return step


if __name__ == "__main__":
    raise SystemExit(main())
