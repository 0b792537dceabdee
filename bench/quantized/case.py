"""A model that all makers are given: one ONNX file, one folder, what it is fed, and how well it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

Values = dict[str, NDArray[Any]]
Run = Callable[[Values], NDArray[Any]]
ROWS = (1, 16, 128)
SEED = 5


@dataclass
class Case(ABC):
    """One model.

    Attributes:
        name: for tables.
        folder: as `save_pretrained` writes it.
        graph: the ONNX file with `batch_size` and `sequence_length`; its weights lie beside it.
        output: the output that is judged.
        vocabulary: how many tokens there are.
    """

    name: str
    folder: Path
    graph: Path
    output: str
    vocabulary: int

    judged_rows: ClassVar[int] = 16  # of the runs that accuracy is measured with
    measures: ClassVar[tuple[str, ...]] = ()
    formats: ClassVar[tuple[str, ...]] = ()  # of ours that are tried besides, as after `--quant`

    def feeds(self, rows: int) -> Values:
        """One text of so many tokens, drawn."""
        ids = np.random.default_rng(SEED).integers(5, self.vocabulary, (1, rows))
        return self.with_mask(ids)

    def with_mask(self, ids: NDArray[np.int64], mask: NDArray[np.int64] | None = None) -> Values:
        """Token ids [1, rows] and all else that the graph takes."""
        mask = np.ones_like(ids) if mask is None else mask
        made = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy(),
        }
        return {name: made[name] for name in self.inputs()}

    def inputs(self) -> list[str]:
        """Names of the graph's inputs."""
        return [value.name for value in onnx.load(self.graph, load_external_data=False).graph.input]

    def fixed(self, rows: int) -> Path:
        """The graph for one text of so many tokens, beside the graph."""
        model = onnx.load(self.graph, load_external_data=False)
        sizes = {"batch_size": 1, "sequence_length": rows}
        for value in (*model.graph.input, *model.graph.output):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param in sizes:
                    dim.dim_value = sizes[dim.dim_param]
        path = self.graph.with_name(f"{self.name}-{rows}.onnx")
        onnx.save(model, path)
        return path

    @abstractmethod
    def module(self, folder: Path) -> Any:
        """The torch model of a folder: its call takes what the graph takes and returns the output that is judged."""

    @abstractmethod
    def judge(self, run: Run) -> dict[str, float]:
        """How well it does: `measures` in their order, the first of which decides what is equal."""

    @abstractmethod
    def as_good(self, ours: dict[str, float], theirs: dict[str, float]) -> bool:
        """Whether ours is at least as good as theirs, but for what no more texts could tell."""
