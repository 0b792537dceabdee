"""All workloads: what each is, which door it comes in by, and how it is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from tests.workloads import files, folders, light

Kind = Literal["folder", "module", "onnx"]
NETS = Path(__file__).parent / "nets"


@dataclass(frozen=True)
class Workload:
    """A model that somebody may bring.

    Attributes:
        name: for people and for tests.
        kind: a Hugging Face folder, a torch module, an ONNX file.
        make: writes the folder or the file; a module's file is there already.
        task: what it is exported for.
        sequence: tokens of a text.
        pixels: height and width of pictures.
        sizes: what symbolic dimensions are.
        states: inputs and the outputs that the next run finds in them, where the source cannot say so.
        trains: whether it is offered with a head and adapters as well.
        refused: why no bundle can be made of it, as a word that the refusal contains.
    """

    name: str
    kind: Kind
    make: Callable[[Path], None] | None = None
    task: str = ""
    sequence: int | None = None
    pixels: int = 64
    sizes: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    trains: bool = False
    refused: str = ""

    def source(self, folder: Path) -> str:
        """What `edgequilt export` is given; built below `folder` where it is not there yet."""
        if self.make is None:
            return f"{NETS / self.name}.py:build"
        path = folder / (f"{self.name}.onnx" if self.kind == "onnx" else self.name)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.make(path)
        return str(path)


def _onnx(name: str, make: Callable[[Path], None], **options: object) -> Workload:
    return Workload(name, "onnx", make, "onnx", **options)  # type: ignore[arg-type] # the fields of Workload


FEATURES, CAUSAL = "feature-extraction", "text-generation-with-past"
WORKLOADS = (
    Workload("bert", "folder", folders.bert, FEATURES, sequence=64, trains=True),
    Workload("gpt2", "folder", folders.gpt2, CAUSAL),
    Workload("llama", "folder", folders.llama, CAUSAL),
    Workload("qwen3", "folder", folders.qwen3, CAUSAL),
    Workload("t5", "folder", folders.t5, "text2text-generation-with-past", sequence=32),
    Workload("vit", "folder", folders.vit, FEATURES, trains=True),
    Workload("swin", "folder", folders.swin, FEATURES, trains=True),
    *(
        Workload(f"resnet-{size}", "folder", partial(folders.resnet, size=size), FEATURES, pixels=size, trains=True)
        for size in (100, 150, 256)
    ),
    Workload("mobilenet", "folder", folders.mobilenet, FEATURES, pixels=96),
    Workload("convnextv2", "folder", folders.convnextv2, FEATURES),
    Workload("unet", "module"),
    Workload("audio", "module"),
    Workload("spiking", "module"),
    _onnx("lstm", files.lstm, sizes={"steps": files.STEPS, "batch": 2}, states={"h": "h_next", "c": "c_next"}),
    _onnx("graphsage", files.graphsage, sizes={"nodes": files.NODES}),
    _onnx("inside-if", files.net_in_if, refused="If"),
    _onnx("inside-loop", files.net_in_loop, refused="Loop"),
    *(_onnx(f"light-{name}", partial(light.light, name=name)) for name in light.NAMES),
)

REFUSED = tuple(workload for workload in WORKLOADS if workload.refused)
LIGHT = tuple(workload for workload in WORKLOADS if workload.name.startswith("light-"))
CARRIED = tuple(workload for workload in WORKLOADS if workload not in (*REFUSED, *LIGHT))
