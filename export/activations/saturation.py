"""Does this processor add up products of uint8 and int8 without cutting them off?

x86 processors without VNNI multiply pairs of eight bits and add the two products in sixteen: 255 x 127 x 2 does not
fit, and onnxruntime's kernel for AVX2 is silently wrong there (onnxruntime, "Quantize ONNX models", section on x64
without VNNI). Weights in seven bits always fit, 255 x 64 x 2 < 2^15. Arm's kernels widen first and never saturate,
with or without `dotprod`; a product of uint8 and uint8 is widened on x86 too.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

LENGTH = 64


def needs_seven_bits(isa: Collection[str]) -> bool:
    """Whether weights for a board have to stay within seven bits, by the extensions that its profile names.

    >>> needs_seven_bits(["avx2"]), needs_seven_bits(["avx2", "avx_vnni"]), needs_seven_bits(["dotprod"])
    (True, False, False)
    """
    return any(name.startswith("avx") for name in isa) and not any("vnni" in name for name in isa)


def saturates() -> bool:
    """Whether the runtime on this machine cuts off the largest products; found by asking it for one."""
    a, b, y = (
        helper.make_tensor_value_info("a", TensorProto.UINT8, [LENGTH, LENGTH]),
        helper.make_tensor_value_info("b", TensorProto.INT8, [LENGTH, LENGTH]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [LENGTH, LENGTH]),
    )
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "product", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"a": np.full((LENGTH, LENGTH), 255, np.uint8), "b": np.full((LENGTH, LENGTH), 127, np.int8)}
    return bool((session.run(None, feeds)[0] != 255 * 127 * LENGTH).any())
