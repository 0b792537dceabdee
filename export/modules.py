"""Which module of the original model a node of a graph came from, whatever wrote the file.

Asked in this order, because each may be missing and the earlier ones are never wrong where they are there:

1. the node's name, where torch's tracing exporter or TensorFlow's wrote a path (`/encoder/layer.0/query/MatMul`);
2. the name of its weight, where that is a parameter's (`features.0.weight`, `conv2_1/x1_w_0`): torch.export names
   nodes after operators, keeps the names of parameters, and moves a convolution into the scope of the
   normalisation that was folded into it;
3. the scopes that torch.export wrote into the node's metadata: weights that it transposed are called `val_12`;
4. the weight's name without a suffix, where it says anything (`embeddings`, not `onnx::MatMul_740`);
5. else operator and position among its like: `MatMul_3` is the fourth MatMul of the file.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"
# what exporters and quantizers hang onto a parameter's name: `.weight`, `_w_0`, `_quantized`, `:0`, ...
PARAMETER = re.compile(
    r"[._/](?:weights?|kernel|filters?|w|W)(?P<tail>(?:[._](?:quant(?:ized)?|q|t|transposed|\d+))*)(?::0)?$"
)
MEANINGLESS = re.compile(
    r"(?:onnx::\w+|(?:val|const|constant|param|p|w|weight|initializer|_v|v|t|k)?_?\d*|\d+)$", re.IGNORECASE
)


def module_path(node_name: str | None) -> str:
    """The module that a node of torch's tracing exporter came from; empty where its name is no path.

    >>> module_path("/encoder/layer.0/attention/self/query/MatMul")
    'encoder.layer.0.attention.self.query'
    >>> module_path("MatMul_12")
    ''
    """
    parts = (node_name or "").strip("/").split("/")
    return ".".join(parts[:-1])


def parameter_path(weight_name: str | None) -> str:
    """The module whose parameter a weight is; empty where its name does not end as a parameter's does.

    >>> parameter_path("features.0.weight"), parameter_path("conv2_1/x1_w_0"), parameter_path("fc.weight_quantized")
    ('features.0', 'conv2_1.x1', 'fc')
    >>> parameter_path("onnx::MatMul_740"), parameter_path("val_12")
    ('', '')
    """
    match = PARAMETER.search(weight_name or "")
    return _dotted((weight_name or "")[: match.start()]) if match else ""


def scope_path(node: ir.Node) -> str:
    """The innermost module in the metadata that torch.export wrote; empty without any.

    The last scope is the call itself (`linear_1`), the first the whole model ('').
    """
    try:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    except (SyntaxError, ValueError):
        return ""
    inside = [scope for scope in scopes[:-1] if isinstance(scope, str) and scope] if isinstance(scopes, list) else []
    return inside[-1] if inside else ""


def module_of(node: ir.Node, weight: ir.Value, position: int) -> str:
    """The best name for the module of a node; never empty.

    Args:
        node: what uses the weight.
        weight: its constant operand.
        position: of the node among the nodes of its operator, from 0.
    """
    name = weight.name or ""
    plain = "" if MEANINGLESS.match(name) else _dotted(name)
    return module_path(node.name) or parameter_path(name) or scope_path(node) or plain or f"{node.op_type}_{position}"


def positions(graph: ir.Graph) -> dict[ir.Node, int]:
    """The position of every node among the nodes of its operator, in file order."""
    seen: Counter[str] = Counter()
    out = {}
    for node in graph:
        out[node] = seen[node.op_type]
        seen[node.op_type] += 1
    return out


def _dotted(name: str) -> str:
    return re.sub(r"[/.]+", ".", name).strip(".")
