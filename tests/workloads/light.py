"""The models that the onnx package carries for its own tests, with weights drawn anew.

They are real topologies (from 2012 to 2017, opset 9) whose weights are `ConstantOfShape` nodes: every output is
the same number, so a wrongly wired graph would pass. Here each becomes a tensor of its shape, drawn from a seed,
with names and nodes otherwise as they are.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = tuple(sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx")))

# of the last layer's weights: the softmax behind it would give one class everything, or all classes the same
LAST = {"inception_v1": 10.0, "inception_v2": 1 / 8, "resnet50": 1 / 1500, "shufflenet": 1 / 40000}


def light(path: Path, name: str) -> None:
    """Write one model, with its weights in a file beside it."""
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    graph = model.graph
    generator = np.random.default_rng(sum(map(ord, name)))
    readers = {source: (node, index) for node in graph.node for index, source in enumerate(node.input)}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made, used = [], set()
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        weight, shape = node.output[0], [int(dim) for dim in shapes[node.input[0]]]
        reader, index = readers[weight]
        drawn = _drawn(reader.op_type, index, shape, generator)
        if reader.output[0] == graph.node[-1].input[0]:
            drawn *= LAST.get(name, 1.0)
        made.append(numpy_helper.from_array(drawn, weight))
        used.add(node.input[0])
        graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in used]
    inputs = [value for value in graph.input if value.name not in shapes]
    del graph.initializer[:], graph.input[:]
    graph.initializer.extend([*kept, *made])
    graph.input.extend(inputs)
    model.ir_version = 4  # from here on a weight need not be an input as well
    onnx.save(model, path, save_as_external_data=True, location=f"{path.stem}.bin", size_threshold=1024)


def _drawn(op_type: str, index: int, shape: list[int], generator: np.random.Generator) -> NDArray[np.float32]:
    """He et al. 2015 for kernels and matrices; vectors near what they would be in a trained net."""
    noise = generator.standard_normal(shape, np.float32)
    if len(shape) > 1:
        drawn = noise * math.sqrt(2.0 / math.prod(shape[1:]))
    elif op_type == "BatchNormalization":  # scale, bias, mean, variance
        drawn = (1 + 0.2 * noise, 0.2 * noise, 0.2 * noise, generator.uniform(0.5, 2.0, shape))[index - 1]
    else:
        drawn = 0.1 * noise + (op_type == "Unsqueeze")
    return np.asarray(drawn, np.float32)
