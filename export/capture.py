"""The first step of an export: which door a source goes through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from console.errors import UsageError
from export.sources.captured import Captured
from export.sources.huggingface import capture_huggingface


def capture(
    source: str,
    task: str,
    work: Path,
    sizes: Mapping[str, int] | None = None,
    states: Mapping[str, str] | None = None,
    *,
    own_head: bool = False,
    trained: bool = False,
) -> Captured:
    """Bring a source to one form.

    Args:
        source: `FILE.onnx`, `FILE.py:FACTORY`, a Hugging Face id, or a folder that `save_pretrained`
            wrote.
        task: as optimum names tasks; it must fit the model. The first two sources have none.
        work: a folder for the raw graph, its weights and the tokenizer; made when absent, kept for verification,
            owned by the caller.
        sizes: of symbolic dimensions, by name.
        states: outputs by the input that they are fed to at the next run; for ONNX files.
        own_head: with the outputs that the model came with, also where a head of ours could be put on.
        trained: a decoder as it is trained, without caches.

    Raises:
        UsageError: an unknown task.
        MissingDependency: a library is not there, or not with the versions that are needed.
        StorageError: a file cannot be read.
        BadData: a file is broken.
        UnsupportedModel: the model cannot be fetched, read or exported.
    """
    if source.endswith(".onnx"):
        from export.sources.onnx_file import capture_onnx

        return capture_onnx(Path(source).expanduser(), work, sizes, states)
    if states:
        raise UsageError(f"expected --state with an .onnx file, found {source}; other sources name their states")
    if ".py:" in source or source.endswith(".pt2"):
        from export.sources.module import capture_module

        return capture_module(source, work, sizes)
    return capture_huggingface(source, task, work, sizes, own_head=own_head, trained=trained)
