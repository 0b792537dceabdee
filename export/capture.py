"""The first step of an export: which door a source goes through."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from export.sources.captured import Captured
from export.sources.huggingface import capture_encoder


def capture(source: str, task: str, work: Path, sizes: Mapping[str, int] | None = None) -> Captured:
    """Bring a source to one form.

    Args:
        source: a Hugging Face id, or a folder that `save_pretrained` wrote.
        task: as optimum names tasks; it must fit the model.
        work: a folder for the raw graph, its weights and the tokenizer; made when absent, kept for verification,
            owned by the caller.
        sizes: of symbolic dimensions, by name.

    Raises:
        UsageError: an unknown task.
        MissingDependency: a library is not there, or not with the versions that are needed.
        UnsupportedModel: the model cannot be fetched, read or exported.
    """
    return capture_encoder(source, task, work)
