"""Does every node name an operator that exists, with the inputs, outputs and attributes that it has?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import onnx
import onnx.defs

from export.sources.contrib import CONTRIB
from export.sources.onnx_graph import MOST_NODES, all_nodes, label
from export.sources.problems import Problems, short

NEWEST_OPSET = 25  # of the main domain
OLDEST_OPSET = 7  # onnxruntime has no kernels for what came before, so nothing could be compared with the original
OLDEST_IR = 3
MICROSOFT = "com.microsoft"
TRAINING = "ai.onnx.preview.training"

Key = tuple[str, str, str]
Kind = onnx.AttributeProto.AttributeType


def check_operators(model: onnx.ModelProto, problems: Problems) -> None:
    """Check every node of a model and of its functions; what is wrong goes to `problems`."""
    if not OLDEST_IR <= model.ir_version <= onnx.IR_VERSION:
        problems.unsupported.append(
            f"IR version {model.ir_version}, where {OLDEST_IR} to {onnx.IR_VERSION} are supported (export it again)"
        )
    opsets = _opsets(model.opset_import, problems)
    functions: dict[Key, onnx.FunctionProto] = {}
    for function in model.functions:
        if functions.setdefault(_key(function), function) is not function:
            problems.broken.append(f"two functions called {short(function.name)}")
    _check_nodes(model.graph.node, opsets, functions, problems)
    for function in functions.values():
        own = {**opsets, **_opsets(function.opset_import, problems, main=False)}
        _check_nodes(function.node, own, functions, problems, inside=True)
    _check_calls(model, functions, problems)


def _opsets(imports: Iterable[onnx.OperatorSetIdProto], problems: Problems, *, main: bool = True) -> dict[str, int]:
    """Versions by domain; `ai.onnx` is the main one, whose name is empty."""
    found = {("" if entry.domain == "ai.onnx" else entry.domain): entry.version for entry in imports}
    if main and "" not in found and not found:
        problems.broken.append("no opset import (it says which version of the operators is meant)")
    version = found.get("", NEWEST_OPSET)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        problems.unsupported.append(
            f"opset {version}, where {OLDEST_OPSET} to {NEWEST_OPSET} are supported (export it again with one of them)"
        )
    return found


def _check_nodes(
    nodes: Iterable[onnx.NodeProto],
    opsets: Mapping[str, int],
    functions: Mapping[Key, onnx.FunctionProto],
    problems: Problems,
    *,
    inside: bool = False,
) -> None:
    for node in all_nodes(nodes):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if any(attribute.ref_attr_name for attribute in node.attribute) and not inside:
            problems.broken.append(f"the node {label(node)} with an attribute of a function outside of any")
        if _called(node) in functions:
            continue
        if domain not in opsets:
            problems.broken.append(f"the operator {_full(node)} without an opset import for its domain")
        elif domain == MICROSOFT:
            if node.op_type not in CONTRIB:
                problems.unsupported.append(f"the unknown operator {_full(node)} (opset {opsets[domain]})")
        elif domain == TRAINING:
            problems.unsupported.append(f"the operator {_full(node)} (onnxruntime does not train by operators)")
        elif OLDEST_OPSET <= opsets.get("", NEWEST_OPSET) <= NEWEST_OPSET:
            _check_node(node, domain, opsets[domain], problems)


def _check_node(node: onnx.NodeProto, domain: str, version: int, problems: Problems) -> None:
    schema = _schema(node.op_type, version, domain)
    if schema is None or schema.deprecated:
        problems.unsupported.append(f"the unknown operator {_full(node)} (opset {version})")
        return
    for what, names, low, high in (
        ("inputs", node.input, schema.min_input, schema.max_input),
        ("outputs", node.output, schema.min_output, schema.max_output),
    ):
        if not low <= len(names) <= high:
            problems.broken.append(f"the node {label(node)} with {len(names)} {what}, where {_span(low, high)} are due")
    for position, formal in enumerate(schema.inputs[: len(node.input)]):
        if formal.option == onnx.defs.OpSchema.FormalParameterOption.Single and not node.input[position]:
            problems.broken.append(f"the node {label(node)} without its input {formal.name}")
    problems.broken.extend(f"the node {label(node)} {word}" for word in _attributes(node, schema))


def _attributes(node: onnx.NodeProto, schema: onnx.defs.OpSchema) -> list[str]:
    """What is wrong with the attributes of a node."""
    out = []
    given = {attribute.name: attribute for attribute in node.attribute}
    if len(given) != len(node.attribute):
        out.append("with one attribute twice")
    for name, attribute in given.items():
        wanted = schema.attributes.get(name)
        if wanted is None:
            out.append(f"with the unknown attribute {short(name)}")
        elif Kind.Name(attribute.type) != _kind(wanted.type) or not _holds(attribute):
            out.append(f"with an attribute {short(name)} that is not {_kind(wanted.type).lower()}")
    missing = [name for name, wanted in schema.attributes.items() if wanted.required and name not in given]
    out.extend(f"without its attribute {short(name)}" for name in missing)
    return out


def _holds(attribute: onnx.AttributeProto) -> bool:
    """Whether an attribute holds a value of the type that it names; an empty list does."""
    if attribute.ref_attr_name:
        return True
    single = {
        Kind.FLOAT: "f",
        Kind.INT: "i",
        Kind.STRING: "s",
        Kind.TENSOR: "t",
        Kind.GRAPH: "g",
        Kind.TYPE_PROTO: "tp",
    }
    name = single.get(attribute.type)
    # numbers and texts that are zero or empty may be left out on the wire
    return attribute.type not in {Kind.TENSOR, Kind.GRAPH, Kind.TYPE_PROTO} or attribute.HasField(str(name))


def _check_calls(model: onnx.ModelProto, functions: Mapping[Key, onnx.FunctionProto], problems: Problems) -> None:
    """Functions do not call themselves, and written out in full they are not absurdly long."""
    sizes: dict[Key, int] = {}

    def size(key: Key, path: tuple[Key, ...]) -> int:
        if key in path or len(path) > 100:
            raise RecursionError(key[1])
        if key not in sizes:
            nodes = list(all_nodes(functions[key].node))
            sizes[key] = sum(size(_called(n), (*path, key)) if _called(n) in functions else 1 for n in nodes)
        return sizes[key]

    try:
        total = sum(size(_called(n), ()) if _called(n) in functions else 1 for n in all_nodes(model.graph.node))
    except RecursionError as error:
        problems.broken.append(f"the function {short(str(error))}, which calls itself")
        return
    if total > MOST_NODES:
        problems.unsupported.append(f"functions that are {total} nodes when written out, more than {MOST_NODES}")


def _called(node: onnx.NodeProto) -> Key:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type, node.overload)


def _key(function: onnx.FunctionProto) -> Key:
    return ("" if function.domain == "ai.onnx" else function.domain, function.name, function.overload)


def _full(node: onnx.NodeProto) -> str:
    return short(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}" if high < 1 << 20 else f"at least {low}"


@cache
def _schema(name: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(name, version, domain)
    except (onnx.defs.SchemaError, OverflowError, TypeError):
        return None


def _kind(kind: onnx.defs.OpSchema.AttrType) -> str:
    """The type of an attribute as onnx.proto calls it."""
    return str(kind).rpartition(".")[2]
