"""The one door to onnxruntime: open a graph with the options that belong to it, and run it.

A graph's inputs come from two lists: `get_inputs()` hides every input that has a default initializer, so
adapters would be dropped without a word. Both lists are read and compared with the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from console.errors import BadData, IntegrityError, UsageError, join
from edge.memory import give_back
from quant.rows import Tables
from wire.manifest import Graph, Options

Array = NDArray[Any]
CPU = "CPUExecutionProvider"
_QUIET = 3  # onnxruntime's severity "error": its warnings speak of graphs, not to users
_LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_ORDERS = {"default": ort.ExecutionOrder.DEFAULT, "priority": ort.ExecutionOrder.PRIORITY_BASED}


def session_options(options: Options, threads: int) -> ort.SessionOptions:
    """The manifest's options as onnxruntime takes them."""
    session = ort.SessionOptions()
    session.graph_optimization_level = _LEVELS[options.graph_optimization]
    session.execution_order = _ORDERS[options.execution_order]
    session.enable_mem_pattern = options.memory_pattern
    session.enable_cpu_mem_arena = options.cpu_arena
    session.intra_op_num_threads = threads
    session.inter_op_num_threads = 1
    session.log_severity_level = _QUIET
    for key, value in options.config.items():
        session.add_session_config_entry(key, value)
    return session


def providers_of(asked: Sequence[str]) -> list[str]:
    """Execution providers in the order in which they are asked; what none of them takes, the CPU does.

    Raises:
        UsageError: this onnxruntime does not have one of them.

    >>> providers_of(())
    ['CPUExecutionProvider']
    """
    here = ort.get_available_providers()
    absent = [name for name in asked if name not in here]
    if absent:
        raise UsageError(
            f"expected {', '.join(absent)} in onnxruntime {ort.__version__}, found {', '.join(here)}; install the "
            "wheel of the board's maker, or leave it out of `providers` in agent.toml"
        )
    return [*(name for name in dict.fromkeys(asked) if name != CPU), CPU]


class Session:
    """One graph, loaded. Inputs that are rows of `tables` are made from the ids that are fed in their place.

    Raises:
        UsageError: this onnxruntime has not what is asked for beside the CPU.
        IntegrityError: the file is no graph that the runtime can load, or its inputs or outputs are not those of
            the manifest.
    """

    def __init__(
        self,
        path: Path,
        graph: Graph,
        threads: int = 1,
        tables: Tables | None = None,
        providers: tuple[str, ...] = (),
    ) -> None:
        self.graph = graph
        self._tables = Tables() if tables is None else tables
        chosen = providers_of(providers)
        try:
            self._session = ort.InferenceSession(str(path), session_options(graph.options, threads), providers=chosen)
        except Exception as error:  # onnxruntime raises a dozen types of its own for a file that it cannot load
            raise IntegrityError(
                f"expected a graph that onnxruntime {ort.__version__} can load in {graph.file}, but it said: "
                f"{_first_line(error)}; export the bundle again or update onnxruntime"
            ) from error
        required = {i.name for i in self._session.get_inputs()}
        optional = {i.name for i in self._session.get_overridable_initializers()}
        self.inputs, self.required = frozenset(required | optional), frozenset(required)
        self.outputs = tuple(o.name for o in self._session.get_outputs())
        self._compare()

    def _compare(self) -> None:
        named = {t.name for t in self.graph.inputs}
        problems = [f"input {n} is not in the graph" for n in sorted(named - self.inputs)]
        problems += [f"input {n} is not in the manifest" for n in sorted(self.inputs - named)]
        absent = {t.name for t in self.graph.outputs} - set(self.outputs)
        problems += [f"output {n} is not in the graph" for n in sorted(absent)]
        if problems:
            raise IntegrityError(
                f"expected {self.graph.file} to have the inputs and outputs of the manifest, but "
                f"{join(problems)}; export the bundle again"
            )

    def run(self, feeds: Mapping[str, Array], wanted: tuple[str, ...] | None = None) -> dict[str, Array]:
        """Run once: inputs that the graph does not have are left out, those with a default may be absent.

        Raises:
            BadData: an input is absent, or does not fit the graph; an id is no row of its table.
        """
        feeds = {**feeds, **self._tables.complete(feeds, {t.name: t.shape for t in self.graph.inputs})}
        absent = self.required - feeds.keys()
        if absent:
            raise BadData(f"expected inputs {', '.join(sorted(absent))} for {self.graph.file}, found none")
        names = list(self.outputs if wanted is None else wanted)
        own = {name: np.ascontiguousarray(value) for name, value in feeds.items() if name in self.inputs}
        try:
            found = self._session.run(names, own)
        except Exception as error:  # the runtime's own exception types again
            raise BadData(
                f"expected inputs that fit {self.graph.file}, but onnxruntime said: {_first_line(error)}"
            ) from error
        # outputs are views of the session's arena and keep all of it alive after `close`: own copies do not
        return {name: np.array(value) for name, value in zip(names, found, strict=True)}

    def close(self) -> None:
        """Give the memory back; after an interrupt it may be called once more."""
        self.__dict__.pop("_session", None)
        give_back()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
