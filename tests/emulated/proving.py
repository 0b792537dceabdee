"""What test_golden runs on a board's Python and on this one: golden values of bundles, and outputs of other input.

python proving.py PUBLISHER.pub INPUT.npz OUT BUNDLE...; prints JSON and writes OUT/NAME.npz for each bundle.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import onnxruntime

from edge.arrays import read_arrays, write_arrays
from edge.prove import prove
from edge.runner import Runner
from edge.steps import Steps
from wire.bundle import open_bundle
from wire.envelope import Trust
from wire.keys import read_public_key


def main() -> None:
    """Prove each bundle, and write what it makes of the input."""
    trust, given, out, *folders = map(Path, sys.argv[1:])
    apart: dict[str, float] = {}
    for folder in folders:
        bundle = open_bundle(folder, Trust([read_public_key(trust, "publisher")]))
        runner = Runner(bundle)
        apart[folder.parent.name] = prove(runner)
        runner.close()
        steps = Steps([bundle])
        write_arrays(out / f"{folder.parent.name}.npz", steps.run(read_arrays(given)))
        steps.close()
    print(json.dumps({"machine": platform.machine(), "onnxruntime": onnxruntime.__version__, "apart": apart}))


if __name__ == "__main__":
    main()
