"""onnxscript's folding and rewriting, without the parts of it that change what a graph computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules import common as rules

from export.quiet import quiet

# onnxscript's defaults, but for x + 0, x - 0, x * 1 and x / 1: they match with a tolerance (1e-8), and an
# epsilon of 1e-12 under a square root is then removed without a word
RULES = [
    rules.cast_cast_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.dropout_inference_rule,
    rules.dropout_zero_rule,
    rules.fuse_batchnorm_into_conv_rule,
    rules.fuse_pad_into_conv_rule,
    rules.materialize_reshape_shape_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.no_op_transpose_rule,
    rules.reshape_reshape_rule,
    rules.squeeze_reshape_1d_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
]
# what one round uncovers, the second folds; a third changed nothing on any export tried
ROUNDS = 2


def simplify(model: ir.Model) -> None:
    """Fold what follows from constants and fixed shapes, in place. Names of inputs, outputs and weights stay.

    The values of inputs that have a default are not constants, and are hidden while the passes run: the
    folder knows that, the rewriter does not (a default scale of 1 would make its product "a no-op").
    """
    with quiet(), _defaults_hidden(model.graph):
        InlinePass()(model)
        for _ in range(ROUNDS):
            fold_constants_ir(model, onnx_shape_inference=True, should_fold=_should_fold)
            rewrite(model, RULES)
            RemoveUnusedNodesPass()(model)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        DeduplicateInitializersPass()(model)
        CommonSubexpressionEliminationPass()(model)
        RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        RemoveUnusedOpsetsPass()(model)
        NameFixPass()(model)
        # the optimizer writes its history into every node
        ClearMetadataAndDocStringPass()(model)


def _should_fold(node: ir.Node) -> bool | None:
    """Also fold the ConstantOfShape of a shape: left alone, the Expand behind it keeps an unknown size."""
    if node.op_type == "ConstantOfShape" and not node.domain:
        shape = node.outputs[0].shape
        return True if shape is not None and len(shape) == 1 else None
    return None


@contextmanager
def _defaults_hidden(graph: ir.Graph) -> Iterator[None]:
    """Inputs without their defaults; afterwards as before."""
    defaults = {value: value.const_value for value in graph.inputs if value.is_initializer()}
    for value in defaults:
        graph.initializers.pop(str(value.name))
        value.const_value = None
    try:
        yield
    finally:
        for value, tensor in defaults.items():
            value.const_value = tensor
            graph.register_initializer(value)
