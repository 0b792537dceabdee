"""A door under inputs that are guided by coverage: `python -m tests.fuzz.guided DOOR [options of libFuzzer]`.

Needs atheris (`pip install atheris`), which nothing here depends on. Without `-max_total_time` or `-runs` it goes on
until something breaks; the input is then in a file `crash-...` of the working folder.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path


def main(name: str, options: list[str]) -> None:
    """Fuzz one door."""
    import atheris

    with atheris.instrument_imports(include=["console", "wire", "devices", "edge", "hub"]):
        from tests.fuzz.decoders import BY_NAME
        from tests.fuzz.run import tried

    decoder = BY_NAME[name]
    with tempfile.TemporaryDirectory() as folder:
        case, corpus = decoder.open(Path(folder)), Path(folder) / "corpus"
        corpus.mkdir()
        for index, data in enumerate(case.seeds):
            (corpus / str(index)).write_bytes(data)

        def one(data: bytes) -> None:
            how, what = tried(case, data)
            if how == "crashed":
                raise RuntimeError(what)

        def bent(data: bytes, most: int, seed: int) -> bytes:
            """Along the structure where there still is one, else as libFuzzer does it."""
            try:
                return decoder.bend(data, random.Random(seed))[:most]
            except Exception:  # noqa: BLE001  # a mutator reads valid bytes only
                return bytes(atheris.Mutate(data, most))

        atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=bent)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
