"""all-MiniLM-L6-v2 with its real weights, judged by a head that was fitted once on float32 features."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.quantized.case import Case, Run, Values
from bench.quantized.texts import Texts
from export.sources.optimum_graph import raw_graph

TOKENS = 16
RIDGE = 1.0
SLACK = 0.005  # of accuracy


@dataclass
class Encoder(Case):
    """Mean over tokens; ridge regression to the labels."""

    test: list[tuple[Values, int]] = field(default_factory=list)
    head: NDArray[Any] = field(default_factory=lambda: np.zeros(0))

    judged_rows: ClassVar[int] = TOKENS
    measures: ClassVar[tuple[str, ...]] = ("accuracy",)
    formats: ClassVar[tuple[str, ...]] = ("int8-dynamic --keep *word_embeddings*=int4",)

    def module(self, folder: Path) -> Any:
        """The torch model."""
        import torch
        from transformers import AutoModel

        model = AutoModel.from_pretrained(folder, device_map="cpu").eval()

        def call(**given: Any) -> Any:
            with torch.inference_mode():
                hidden = model(**given).last_hidden_state
                mask = given["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                return (hidden * mask).sum(1) / mask.sum(1)

        return call

    def judge(self, run: Run) -> dict[str, float]:
        """Accuracy on the test texts."""
        right = [int(np.argmax(_normed(run(fed)) @ self.head)) == label for fed, label in self.test]
        return {"accuracy": float(np.mean(right))}

    def as_good(self, ours: dict[str, float], theirs: dict[str, float]) -> bool:
        """At most half a point less."""
        return ours["accuracy"] >= theirs["accuracy"] - SLACK


def make_encoder(folder: Path, texts: Texts, work: Path, run_of: Any) -> Encoder:
    """Export it, add the mean over tokens, fit the head.

    Args:
        folder: of the model.
        texts: what is learnt and judged.
        work: where the graph goes.
        run_of: makes a `Run` of an ONNX file.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    graph = work / "encoder.onnx"
    raw_graph(folder, config, "feature-extraction", graph)
    _pooled(graph, int(config["hidden_size"]))
    case = Encoder("encoder", folder, graph, "features", int(config["vocab_size"]))
    tokens = _tokenizer(folder)
    run = run_of(graph, case.output)
    features = np.concatenate([_normed(run(_fed(case, tokens, text))) for text, _ in texts.train]).astype(np.float64)
    wanted = np.eye(texts.labels)[[label for _, label in texts.train]]
    normal = features.T @ features + RIDGE * np.eye(features.shape[1])
    case.head = np.linalg.solve(normal, features.T @ wanted)
    case.test = [(_fed(case, tokens, text), label) for text, label in texts.test]
    return case


def _pooled(path: Path, width: int) -> None:
    """Replace the graph's outputs by the mean of `last_hidden_state` over marked tokens."""
    model = onnx.load(path, load_external_data=False)
    ones = numpy_helper.from_array(np.array([1], np.int64), "pool.axis_1")
    last = numpy_helper.from_array(np.array([2], np.int64), "pool.axis_2")
    one = numpy_helper.from_array(np.array([1], np.float32), "pool.one")
    model.graph.initializer.extend([ones, last, one])
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["pool.mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["pool.mask", "pool.axis_2"], ["pool.marks"]),
            helper.make_node("Mul", ["last_hidden_state", "pool.marks"], ["pool.marked"]),
            helper.make_node("ReduceSum", ["pool.marked", "pool.axis_1"], ["pool.sum"], keepdims=0),
            helper.make_node("ReduceSum", ["pool.marks", "pool.axis_1"], ["pool.count"], keepdims=0),
            helper.make_node("Max", ["pool.count", "pool.one"], ["pool.least"]),  # a text may have no mark at all
            helper.make_node("Div", ["pool.sum", "pool.least"], ["features"]),
        ]
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch_size", width]))
    onnx.save(model, path)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens.enable_truncation(TOKENS)
    tokens.enable_padding(length=TOKENS)
    return tokens


def _fed(case: Encoder, tokens: Any, text: str) -> Values:
    found = tokens.encode(text)
    return case.with_mask(np.array([found.ids], np.int64), np.array([found.attention_mask], np.int64))


def _normed(features: NDArray[Any]) -> NDArray[Any]:
    """[n, D] of length sqrt(D)."""
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True) * np.sqrt(features.shape[1]))
