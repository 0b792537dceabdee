"""What a fix costs and does: `python -m bench.fix --data FOLDER [--fixes N] [--out FILE.json]`.

all-MiniLM-L6-v2 with the 150 intents of CLINC150 (FOLDER/clinc150): a real hub, a server agent in float32, a board in
int8 at rank 8 and one in int4 at rank 2, all in this process, with rungs that carry random directions so that every
rank has features of its own. One fix goes all the way: the bytes that the boards take in for it are counted. Then N
sentences of the test set that the server answers wrong are mended one by one, on top of the same version, as the agent
does it; what each does is looked at on the boards' own bundles, on test sentences that no fix has seen:

* passed: success and drawdown at both ranks, by the gate's bars;
* right on the board: the sentence itself, by the board's format;
* reach: the same sentence with words around it ("please ...", "... thanks", ...) has the label;
* lost: other test sentences that were right and are wrong now, of all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray

from bench.learning import texts
from console.progress import progress
from console.table import percent, table
from devices.plan import Board as Wish
from edge.config import BrokerTable, Config
from edge.runner import Runner
from edge.training import head_edits
from edge.training.head_edits import Outputs
from export.pipeline import ExportRequest, export_model, steps_of
from hub.making.versions import read_heads, read_start
from sim.minilm import model_folder
from tests.edge.boards import Board
from tests.edge.hub import FLEET
from tests.hub.fixes import SERVER, Fleet
from wire.adapter import Adapter, to_bytes
from wire.bundle import open_bundle
from wire.files import write_atomic
from wire.keys import PrivateKey, new_key, write_key
from wire.kinds.edit import apply
from wire.kinds.head import pick
from wire.kinds.lora import Lora
from wire.manifest import parse_manifest

BOARDS = {
    SERVER: ("server", "fp32", 8),
    "int8": ("raspberry-pi-4-2gb", "int8", 8),
    "int4": ("raspberry-pi-zero-2w", "int4", 2),
}
RANKS, TRAIN, CALIBRATION, TEST = (2, 8), 4500, 1500, 1000
AROUND = ("please {}", "{} thanks", "hi, {}", "i need to know: {}")
PLENTY, BAR, CLASSES = 8 << 30, 0.001, 150


@dataclass(frozen=True)
class Sentences:
    """Texts with labels."""

    texts: list[str]
    labels: NDArray[np.int64]

    def part(self, chosen: Sequence[int]) -> Sentences:
        """Some of them."""
        return Sentences([self.texts[i] for i in chosen], self.labels[list(chosen)])


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="What a fix costs and does.")
    parser.add_argument("--data", type=Path, required=True, help="a folder with clinc150/data_full.json")
    parser.add_argument("--fixes", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("build/bench/fix.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measured(options.data, Path(name), options.fixes)
    write_atomic(options.out, json.dumps(found, indent=1).encode())
    print(told(found))
    print(f"\nwritten to {options.out}")
    return 0


def measured(data: Path, work: Path, fixes: int) -> dict[str, Any]:
    """All figures."""
    train, calibration, test = parts(data)
    fleet = fleet_of(work, train, calibration)
    version = fleet.used.version
    heads = read_heads(version, fleet.hub.home.blobs)
    asked = Sentences(test.texts + [form.format(t) for t in test.texts for form in AROUND], test.labels)
    outputs = {
        (name, rank): features(fleet, name, rank, asked.texts)
        for name, rank in ((SERVER, 2), (SERVER, 8), ("int8", 8), ("int4", 2))
    }
    known = {rank: features(fleet, SERVER, rank, calibration.texts) for rank in RANKS}
    before = {key: logits(values, heads, key[1]) for key, values in outputs.items()}
    n = len(test.texts)
    wrong = [i for i in range(n) if all(before[SERVER, r].argmax(axis=1)[i] != test.labels[i] for r in RANKS)][:fixes]
    one = wire(fleet, test.texts[wrong[0]], int(test.labels[wrong[0]]))
    rows = []
    with progress("mending", len(wrong), unit="fixes") as bar:
        for index in wrong:
            rows.append(mended(index, test, calibration, outputs, known, heads))
            bar.advance(1)
    accuracy = {
        f"{name} rank {rank}": float((before[name, rank].argmax(axis=1)[:n] == test.labels).mean())
        for name, rank in before
    }
    return {
        "accuracy": accuracy,
        "wire": one,
        "fixes": rows,
        "rows": {"calibration": len(calibration.texts), "test": n},
    }


def parts(data: Path) -> tuple[Sentences, Sentences, Sentences]:
    """Rows to make a head of, rows of the server agent, rows to look at."""
    found = texts.clinc(data)
    drawn, every = np.random.default_rng(7), []
    for part, count in ((texts.TRAIN, TRAIN), (texts.VALIDATION, CALIBRATION), (texts.TEST, TEST)):
        rows = np.flatnonzero(found.part == part)
        chosen = sorted(drawn.permutation(rows)[:count].tolist())
        every.append(Sentences([found.sentences[i] for i in chosen], found.labels["clinc150"][chosen].astype(np.int64)))
    return every[0], every[1], every[2]


def fleet_of(work: Path, train: Sentences, calibration: Sentences) -> Fleet:
    """A hub with a version in use whose rungs carry something, and whose heads are of those."""
    publisher = new_key("publisher", "bench")
    labels = tuple(f"intent-{i}" for i in range(CLASSES))
    request = ExportRequest(
        str(model_folder()), "feature-extraction", labels,
        tuple(Wish(device, PLENTY, "serve", quant, rank) for device, quant, rank in BOARDS.values()),
        publisher, work / "bundles", sequence=32,
    )  # fmt: skip
    with progress("exporting three bundles", steps_of(request)) as bar:
        export_model(request, bar)
    boards = {name: board_of(work / name, name, work / "bundles" / of[0], publisher) for name, of in BOARDS.items()}
    for name, rows in ((SERVER, calibration), ("int8", train), ("int4", train.part(range(10)))):
        lines = [json.dumps({"text": t, "label": labels[int(i)]}) for t, i in zip(rows.texts, rows.labels, strict=True)]
        boards[name].config.data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fleet = Fleet(work, boards)
    (work / "random.safetensors").write_bytes(to_bytes(random_directions(boards[SERVER])))
    fleet.ask("import", path=str(work / "random.safetensors"))
    found = fleet.run("statistics", devices=["int8"])
    if found["state"] != "complete":
        raise RuntimeError(found["sentence"])
    return fleet


def board_of(folder: Path, name: str, bundle: Path, publisher: PrivateKey) -> Board:
    """A board with an exported bundle."""
    folder.mkdir(parents=True)
    key = new_key("device", name)
    for made in (key, publisher):
        write_key(made, folder / "keys")
    data = folder / "data.jsonl"
    data.write_text('{"text": "x", "label": "intent-0"}\n')
    keys = folder / "keys"
    publishers = (keys / f"{publisher.public.name}.pub",)
    config = Config(
        name, FLEET, bundle, folder / "state", data, 0.1, 2, 600.0, None, BrokerTable("mqtt://127.0.0.1:1"),
        keys / f"{name}.key", (keys / "hub.pub",), publishers,
    )  # fmt: skip
    return Board(folder, config, parse_manifest((bundle / "manifest.json").read_bytes()), key, publisher)


def random_directions(board: Board) -> Adapter:
    """Factors that move features a little, as training would."""
    drawn = np.random.default_rng(3)
    lora = {
        slot.name: Lora(
            (drawn.standard_normal((slot.features_in, 8)) / np.sqrt(slot.features_in)).astype(np.float32),
            (0.05 * drawn.standard_normal((8, slot.features_out)) / np.sqrt(8)).astype(np.float32),
            1.0,
        )
        for slot in board.manifest.slots_of("lora")
    }
    return Adapter(board.manifest.model.id, lora=lora)


def features(fleet: Fleet, name: str, rank: int, sentences: list[str]) -> NDArray[np.float32]:
    """Of a board's own bundle, with the version in use."""
    used = fleet.used
    adapter = read_start(used.digest, used.version, fleet.hub.home.blobs, rank)
    runner = Runner(open_bundle(fleet.boards[name].config.bundle or Path(), None), threads=2)
    try:
        with progress(f"features: {name}, rank {rank}", len(sentences), unit="rows") as bar:
            found: NDArray[np.float32] = runner.forward(sentences, adapter, bar.advance).features
        return found
    finally:
        runner.close()


def logits(values: NDArray[np.float32], heads: Any, rank: int) -> NDArray[np.float32]:
    """Of features through the head of a rank."""
    head = pick(heads, rank)
    if head is None:
        raise RuntimeError("expected a head")
    found: NDArray[np.float32] = values @ head.weight + head.bias
    return found


def wire(fleet: Fleet, text: str, label: int) -> dict[str, Any]:
    """One fix all the way: bytes of topics and payloads that each board took in and sent for it, until it serves it."""
    before = {name: (core.status.traffic.down, core.status.traffic.up) for name, core in fleet.cores.items()}
    found = fleet.fix(text, f"intent-{label}", drawdown=1.0)
    fleet.pass_time(5)
    served = fleet.used.digest
    moved = {}
    for name, core in fleet.cores.items():
        version = core.store.served_of(fleet.model)
        down, up = core.status.traffic.down - before[name][0], core.status.traffic.up - before[name][1]
        moved[name] = {"down": down, "up": up, "serves": version is not None and version.digest == served}
    result = {"state": found["state"], "sentence": found["sentence"], "blob_bytes": found["bytes"], "moved": moved}
    head, rungs = fleet.used.version.head_bytes, sum(rung.bytes for rung in fleet.used.version.rungs)
    fleet.ask("fix_undo", fix=found["fix"])
    fleet.pass_time(5)
    return {**result, "head_bytes": head, "rungs_bytes": rungs}


def mended(
    index: int,
    test: Sentences,
    calibration: Sentences,
    outputs: dict[tuple[str, int], NDArray[np.float32]],
    known: dict[int, NDArray[np.float32]],
    heads: Any,
) -> dict[str, Any]:
    """What a fix of one test sentence does."""
    label, n, made, lost = int(test.labels[index]), len(test.texts), {}, []
    for rank in RANKS:
        asked = outputs[SERVER, rank][[index]]
        wish = head_edits.Wish(
            Outputs(asked, logits(asked, heads, rank)), label,
            Outputs(known[rank], logits(known[rank], heads, rank)), calibration.labels, BAR, 2,
        )  # fmt: skip
        best = head_edits.found(wish)
        made[rank] = best
        lost.append(best.lost)
    edited = apply(heads, [{rank: best.edit for rank, best in made.items()}])
    row: dict[str, Any] = {"passed": all(best.right and best.within for best in made.values()), "lost": max(lost)}
    for name, rank in (("int8", 8), ("int4", 2)):
        was, now = (logits(outputs[name, rank], own, rank).argmax(axis=1) for own in (heads, edited))
        others = np.arange(n) != index
        right, still = was[:n] == test.labels, now[:n] == test.labels
        around = now[n + index * len(AROUND) : n + (index + 1) * len(AROUND)] == label
        row[name] = {
            "right": bool(now[index] == label),
            "reach": float(around.mean()),
            "lost": int(np.sum(right & ~still & others)),
            "gained": int(np.sum(~right & still & others)),
        }
    return row


def told(found: dict[str, Any]) -> str:
    """For people."""
    passed = [row for row in found["fixes"] if row["passed"]]
    lines = [f"accuracy: {', '.join(f'{name} {percent(value)}' for name, value in found['accuracy'].items())}"]
    lines.append(f"{len(passed)} of {len(found['fixes'])} fixes pass the gate (bar {percent(BAR)})")
    rows = []
    for name in ("int8", "int4"):
        of = [row[name] for row in passed]
        count = max(1, len(of)) * (found["rows"]["test"] - 1)
        right, reach = (float(np.mean([one[what] for one in of])) if of else 0.0 for what in ("right", "reach"))
        moved = [sum(one[what] for one in of) / count for what in ("lost", "gained")]
        rows.append(
            [
                name,
                percent(right),
                percent(reach),
                f"{moved[0]:.3%}",
                f"{moved[1]:.3%}",
                max([o["lost"] for o in of], default=0),
            ]
        )
    lines += ["", table(["board", "right there", "reach", "lost", "gained", "most lost"], rows), ""]
    one = found["wire"]
    lines.append(f"the fix that went all the way: {one['state']}; {one['sentence']}")
    lines.append(
        f"blob {one['blob_bytes']:,} bytes; the head has {one['head_bytes']:,}, the rungs {one['rungs_bytes']:,}"
    )
    rows = [
        [name, f"{m['down']:,}", f"{m['up']:,}", "yes" if m["serves"] else "no"] for name, m in one["moved"].items()
    ]
    return "\n".join([*lines, table(["agent", "bytes in", "bytes out", "serves it"], rows)])


if __name__ == "__main__":
    sys.exit(main())
