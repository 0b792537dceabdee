"""The Python API: load a bundle, ask it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from console.errors import UsageError
from edge.assemble import read_version
from edge.config import Config
from edge.runner import Runner
from edge.setup import bundle_in_use
from edge.shelf import Shelf
from edge.store import Store
from wire.adapter import Adapter
from wire.bundle import open_bundle
from wire.envelope import Trust
from wire.inputs import check_adapter, places_of
from wire.keys import read_public_key


class Prediction(TypedDict):
    """The most likely label, and a probability per label."""

    label: str
    scores: dict[str, float]


class Model:
    """A bundle with, perhaps, an adapter. `runner` is what the jobs of edge.train and its neighbours take."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.adapter: Adapter | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in order."""
        return self.runner.manifest.labels

    def apply(self, adapter: Adapter | None) -> None:
        """Use an adapter (factors, head) from now on; None is the base model.

        Raises:
            BadData: it does not belong to this model.
        """
        if adapter is not None:
            check_adapter(self.runner.manifest, adapter)
        self.adapter = adapter

    def infer(self, samples: Sequence[Any]) -> list[Prediction]:
        """Label texts, or pictures (paths, Pillow images, arrays [height, width(, channels)] in 0..255)."""
        logits = self.runner.forward(_listed(samples), self.adapter).logits.astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return [
            Prediction(
                label=self.labels[int(row.argmax())],
                scores={k: float(p) for k, p in zip(self.labels, row, strict=True)},
            )
            for row in shares
        ]

    def features(self, samples: Sequence[Any]) -> NDArray[np.float32]:
        """Features [n, D] of texts or pictures."""
        return self.runner.forward(_listed(samples), self.adapter).features

    def close(self) -> None:
        """Give the memory back."""
        self.runner.close()


def load(folder: str | Path, trust: Trust | str | Path | None = None, threads: int = 1) -> Model:
    """Check a bundle and make it ready.

    Args:
        folder: where the bundle lies.
        trust: the publisher keys that are believed, or the path of one .pub file; None skips the signature (the
            digests are checked all the same).
        threads: for one operator.

    Raises:
        EdgequiltError: as wire.bundle.open_bundle, and when files of the bundle do not belong together.
    """
    if isinstance(trust, (str, Path)):
        trust = Trust([read_public_key(Path(trust), "publisher")])
    return Model(Runner(open_bundle(Path(folder), trust), threads))


def serving(config: Config) -> Model:
    """An agent's bundle with the version that it serves: the base model while none is released.

    Raises:
        EdgequiltError: as `load`, and when the state folder does not hold what it says.
    """
    trust = Trust(read_public_key(path, "publisher") for path in config.publisher_keys)
    bundle = bundle_in_use(config, Shelf(config.state), trust)
    if bundle is None:
        raise UsageError("expected a bundle, found that the hub has named none yet; start the agent and wait for it")
    model = Model(Runner(bundle, config.threads, providers=config.providers))
    store = Store(config.state)
    served = store.served_of(bundle.manifest.model.id)
    version = None if served is None else store.version(served.digest)
    if served is not None and version is not None:
        manifest = model.runner.manifest
        model.apply(places_of(manifest, read_version(store.blobs, served.digest, version, manifest.plan.rank)))
    return model


def _listed(samples: Sequence[Any]) -> Sequence[Any]:
    return [samples] if isinstance(samples, str) else samples
