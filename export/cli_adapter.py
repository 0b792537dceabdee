"""`edgequilt adapter convert`: an adapter from one format into another, checked against the model of a bundle."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from console.arguments import Arguments
from console.errors import BadData, StorageError, UsageError
from export.ort_adapter import SUFFIX, read_ort_adapters, write_ort_adapter
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.bundle import open_bundle
from wire.files import read_bytes, write_atomic
from wire.inputs import check_adapter, joined
from wire.manifest import Manifest
from wire.peft import CONFIG, files_of, read_peft

FORMATS = ("edgequilt", "onnx_adapter", "peft")


def parser() -> argparse.ArgumentParser:
    """All options, with their help."""
    p = Arguments(prog="edgequilt adapter", description="Adapters between edgequilt, onnxruntime and PEFT.")
    verbs = p.add_subparsers(dest="verb", required=True)
    c = verbs.add_parser("convert", help="write an adapter in another format")
    c.add_argument(
        "adapter", type=Path, nargs="+", help="a file, a folder that PEFT wrote, or an .onnx_adapter of each segment"
    )
    c.add_argument(
        "--bundle",
        type=Path,
        action="append",
        required=True,
        help="of the model that the adapter belongs to; repeat for every stage of a chain",
    )
    c.add_argument("--to", choices=FORMATS, required=True)
    c.add_argument("--from", dest="source", choices=FORMATS, help="(default: by what is there)")
    c.add_argument(
        "--base", default="", metavar="NAME", help="what PEFT is told that it belongs to (default: the model)"
    )
    c.add_argument(
        "--out", type=Path, required=True, help="a file; for PEFT, and for onnxruntime with several segments, a folder"
    )
    c.add_argument("--json", action="store_true")
    return p


def main(argv: list[str]) -> int:
    """`edgequilt adapter convert ADAPTER --bundle B --to FORMAT --out F`; returns the exit code."""
    options = parser().parse_args(argv)
    manifest = joined([open_bundle(folder, trust=None).manifest for folder in options.bundle])
    adapter = read(options.adapter, options.source or guess(options.adapter), manifest)
    files = write(adapter, options.to, manifest, options.out, options.base or manifest.model.name)
    told = {
        "model": adapter.model,
        "rank": adapter.rank,
        "slots": len(adapter.lora),
        "biases": len(adapter.bias),
        "scales": 0 if adapter.scales is None else len(adapter.scales.belongs),
        "head": adapter.head is not None,
        "files": [str(path) for path in files],
    }
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        parts = [f"{len(adapter.lora)} slots of rank up to {adapter.rank}", f"{len(adapter.bias)} biases"]
        print(f"{', '.join(parts)}{', a head' if adapter.head else ''}: {', '.join(map(str, files))}")
    return 0


def refuse_scales(adapter: Adapter, target: str) -> None:
    """Raises BadData if an adapter moves scales, for which a format has no place."""
    if adapter.scales is not None:
        count = len(adapter.scales.belongs)
        raise BadData(f"expected no moved scales for {target}, found those of {count} weights; keep edgequilt's own")


def guess(paths: Sequence[Path]) -> str:
    """The format of an adapter, by what its first path is."""
    if paths[0].is_dir() and (paths[0] / CONFIG).exists():
        return "peft"
    return "onnx_adapter" if paths[0].is_dir() or paths[0].suffix == SUFFIX else "edgequilt"


def read(paths: Sequence[Path], source: str, manifest: Manifest) -> Adapter:
    """Read an adapter of a model.

    Raises:
        UsageError: several paths where one is needed.
        BadData: it is not of that format, or not of that model; everything that is wrong.
        StorageError: it cannot be read.
    """
    if source == "onnx_adapter":
        files = [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]
        if not files:
            raise UsageError(f"expected a file of each segment in {paths[0]}, found no *{SUFFIX}")
        adapter = read_ort_adapters(files, manifest)
    elif len(paths) > 1:
        raise UsageError(f"expected one adapter, found {len(paths)}; only onnxruntime has one per segment")
    elif source == "peft":
        adapter = Adapter(manifest.model.id, lora=read_peft(paths[0], manifest.slots_of("lora")))
    else:
        adapter = read_adapter(read_bytes(paths[0], "an adapter"), str(paths[0]))
    check_adapter(manifest, adapter)
    return adapter


def write(adapter: Adapter, target: str, manifest: Manifest, out: Path, base: str) -> list[Path]:
    """Write an adapter; the files.

    Raises:
        BadData: the format has no place for what it holds.
        StorageError: the folder holds an adapter already, or cannot be written.
    """
    if target == "onnx_adapter":
        refuse_scales(adapter, "onnxruntime's forward graphs")
        return write_ort_adapter(manifest, adapter, out)
    if target == "edgequilt":
        write_atomic(out, to_bytes(adapter))
        return [out]
    if adapter.bias:
        raise BadData(f"expected LoRA factors only for PEFT, found {len(adapter.bias)} biases, which it cannot hold")
    refuse_scales(adapter, "PEFT")
    if (out / CONFIG).exists():
        raise StorageError(f"expected no adapter in {out}, found one; choose another folder")
    files = files_of(manifest.slots_of("lora"), adapter.lora, base, adapter.head, manifest.labels)
    for name, data in files.items():
        write_atomic(out / name, data)
    return [out / name for name in files]
