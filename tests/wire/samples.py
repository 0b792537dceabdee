"""Records that tests of several files start from."""

from __future__ import annotations

from wire.files import digest
from wire.manifest import (
    Bucket,
    File,
    Golden,
    Graph,
    Head,
    Manifest,
    Measured,
    Model,
    Options,
    Plan,
    Preprocess,
    Segment,
    Slot,
    Tensor,
)


def manifest(files: dict[str, bytes]) -> Manifest:
    """A small manifest of one segment with one slot over the given files."""
    graph = Graph(
        kind="forward",
        bucket="b2",
        file="segment0.forward.onnx",
        inputs=(
            Tensor("x", "float32", (2, 4)),
            Tensor("slot.A", "float32", (4, "r")),
            Tensor("slot.B", "float32", ("r", 4)),
            Tensor("slot.scale", "float32", ()),
        ),
        outputs=(Tensor("logits", "float32", (2, 3)),),
        options=Options("disable", "priority", False, True, {"session.intra_op.allow_spinning": "0"}),
        memory=Measured(1000),
    )
    slot = Slot("layer.query", "layer.query", "lora", 4, 4, "segment0", "slot.A", "slot.B", "slot.scale")
    segment = Segment("segment0", ("x",), ("logits",), (), ("layer.query",), (graph,), ("segment0.weights.bin",))
    return Manifest(
        schema=1,
        edgequilt="0.1.0",
        model=Model("toy-00000000", "toy", "image-classification", digest(b"toy")),
        plan=Plan("server", "train", "fp32", 2, 2, (), 1 << 30, 1 << 20),
        files=tuple(File(name, len(data), digest(data)) for name, data in files.items()),
        inputs=(Tensor("x", "float32", (2, 4)),),
        buckets=(Bucket("b2", 2),),
        segments=(segment,),
        slots=(slot,),
        head=Head(4, "head.weight", "head.bias", "features", "logits", "segment0", "mean"),
        labels=("a", "b", "c"),
        preprocess=Preprocess("image"),
        golden=Golden("golden.safetensors", "b2", 1e-5),
    )
