"""A torch model in a process of its own: `python -m bench.quantized.torch_peak MODULE CASE FOLDER --feeds FILE.npz`.

Prints what `export.peak` prints of a graph.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import bitsandbytes  # noqa: F401 # a base to compare with: what the runs import is imported before it is measured
import numpy as np
import torch
from transformers import AutoModel, AutoModelForCausalLM

from export.peak import RUNS, Sampler, status_bytes


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("case")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--feeds", type=Path, required=True)
    options = parser.parse_args()
    case = getattr(importlib.import_module(options.module), options.case)
    torch.set_num_threads(1)
    for kind in (AutoModel, AutoModelForCausalLM):  # loads the files of the architecture
        with torch.device("meta"):
            kind.from_config(_config(options.folder))
    with np.load(options.feeds) as file:
        fed = {name: torch.from_numpy(file[name]) for name in file.files}
    found = {"base_bytes": status_bytes("VmHWM"), "base_anon_bytes": status_bytes("RssAnon")}
    sampler = Sampler()
    sampler.start()
    module = case.module(None, options.folder)
    found["loaded_anon_bytes"] = status_bytes("RssAnon")
    for _ in range(RUNS):
        module(**fed)
    sampler.stop()
    print(json.dumps({**found, "peak_bytes": status_bytes("VmHWM"), "peak_anon_bytes": sampler.peak_bytes}))
    return 0


def _config(folder: Path) -> object:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


if __name__ == "__main__":
    raise SystemExit(main())
