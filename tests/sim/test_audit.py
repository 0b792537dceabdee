"""Every check holds for what a fleet has left, and fails for each thing that it is there to find."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text

from hub.making.versions import read_made
from hub.store import registry
from hub.store.registry import Home
from sim import audit
from tests.hub.bundles import manifest, write_bundle
from tests.hub.world import World
from tests.sim.results import BOARDS
from wire.adapter import Adapter, read_adapter, to_bytes
from wire.envelope import seal
from wire.files import digest
from wire.keys import new_key, write_key
from wire.messages import encode

STORY = ("statistics", "train", "train", "statistics")
Pooled = list[tuple[NDArray[np.float32], NDArray[np.int64]]]


@dataclass
class Left:
    """What a run has left: the hub's folder, opened; the agents' receipts; the rows of all boards in one place."""

    home: Home
    receipts: dict[str, list[dict[str, str]]]
    pooled: Pooled

    def sql(self, statement: str, **values: Any) -> None:
        """Change the ledger behind the hub's back."""
        with self.home.ledger.transaction() as tx:
            assert tx.execute(text(statement), values).rowcount > 0

    def versions(self) -> list[dict[str, Any]]:
        """The rows of all versions."""
        return self.home.ledger.versions()

    def publish(self, number: int, **changes: Any) -> None:
        """Let the hub have published another version, signed as it should be."""
        row = self.versions()[number]
        body = encode(replace(read_made(row).version, **changes))
        self.sql(
            "UPDATE versions SET body = :body, envelope = :envelope, digest = :digest WHERE number = :number",
            body=body, envelope=seal(self.home.key, body), digest=digest(body), number=number,
        )  # fmt: skip

    def resend(self, row: dict[str, Any], adapter: Adapter) -> None:
        """Let a device have sent something else, with a receipt."""
        name = self.home.blobs.put(to_bytes(adapter))
        self.sql("UPDATE updates SET digest = :new WHERE id = :id", new=name, id=row["id"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pooled]:
    """A story told once, by a hub that keeps fewer directions than come: `hub/` and `receipts/NAME.json`."""
    folder = tmp_path_factory.mktemp("finished")
    publisher = new_key("publisher", "acme")
    _, public = write_key(publisher, folder)
    registry.create(folder / "hub", "farm", [public], "127.0.0.1:0")
    told = folder / "hub" / "hub.toml"
    told.write_text(told.read_text().replace("rank = 16", "rank = 4"))
    home = registry.open_home(folder / "hub")
    registry.add_bundle(home, write_bundle(folder / "bundle", publisher, *manifest()))
    home.ledger.close()
    world = World(folder, publisher)
    for kind in STORY:
        assert world.run(kind)["state"] == "complete"
    (folder / "receipts").mkdir()
    for name, device in world.devices.items():
        lines = []
        for receipt in device.receipts:
            begin = device.sent[receipt.update].begin
            lines.append({"digest": begin.update, "job": begin.job, "kind": begin.kind, "status": receipt.status})
        (folder / "receipts" / f"{name}.json").write_text(json.dumps(lines))
    world.hub.home.ledger.close()
    return folder, [(device.features, device.classes) for device in world.devices.values()]


@pytest.fixture
def left(finished: tuple[Path, Pooled], tmp_path: Path) -> Iterator[Left]:
    """A copy that a test may bend."""
    folder, pooled = finished
    shutil.copytree(folder, tmp_path / "copy")
    home = registry.open_home(tmp_path / "copy" / "hub")
    receipts = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "copy" / "receipts").iterdir()}
    with closing(home.ledger):
        yield Left(home, receipts, list(pooled))


Bend = Callable[[Left], None]


# ------------------------------------------------------------------------------------- receipts


def test_what_was_receipted_is_kept(left: Left) -> None:
    """Three devices, four rounds and a gate: fifteen receipts for fifteen updates."""
    check = audit.receipted_is_kept(left.home, left.receipts)
    assert check.held
    assert check.figures == "15 receipts, 15 updates counted"


def _blob(left: Left) -> Path:
    return left.home.blobs.path(left.home.ledger.updates(2)[0]["digest"])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _lost_row(left: Left) -> None:
    left.sql("DELETE FROM updates WHERE round = 2 AND device = 'coop'")


def _counted_again(left: Left) -> None:
    columns = "device, kind, digest, base, job, samples, bytes, metrics, at_s"
    left.sql(
        f"INSERT INTO updates (round, {columns}) SELECT 1, {columns} FROM updates WHERE round = 2 AND device = 'coop'"
    )


def _counted_for_another(left: Left) -> None:
    other = next(row["digest"] for row in left.home.ledger.updates(2) if row["device"] == "barn")
    left.sql("UPDATE updates SET digest = :other WHERE round = 2 AND device = 'coop'", other=other)


def _counted_without_receipt(left: Left) -> None:
    left.receipts["mill"].pop()


RECEIPTS: dict[str, Bend] = {
    "a blob is gone": lambda left: _blob(left).unlink(),
    "a blob has other bytes": lambda left: _flip(_blob(left)),
    "a row is gone": _lost_row,
    "an update counts in two rounds": _counted_again,
    "an update counts in place of another": _counted_for_another,
    "an update counts that nobody has a receipt for": _counted_without_receipt,
    "no agent has a receipt": lambda left: left.receipts.clear(),
}


@pytest.mark.parametrize("bend", RECEIPTS.values(), ids=RECEIPTS.keys())
def test_lost_and_double_updates_are_found(left: Left, bend: Bend) -> None:
    """Whatever breaks the bond between receipts, ledger and blobs fails the check."""
    bend(left)
    check = audit.receipted_is_kept(left.home, left.receipts)
    assert not check.held


def test_refused_and_repeated_receipts_are_nothing(left: Left) -> None:
    """A refusal and the same receipt twice change nothing."""
    held = left.receipts["coop"]
    held.append({"digest": "0" * 64, "job": "r2-train-coop", "kind": "adapter", "status": "refused"})
    held.append({**held[0], "status": "duplicate"})
    assert audit.receipted_is_kept(left.home, left.receipts).held


def test_a_fleet_that_did_nothing_has_proved_nothing(left: Left) -> None:
    """Without a single update the check does not hold."""
    left.sql("DELETE FROM updates WHERE 1")
    assert not audit.receipted_is_kept(left.home, {}).held


# --------------------------------------------------------------------------------------- budget


def test_budgets_are_kept_up_to_the_last_byte() -> None:
    """A peak at the budget holds, one byte more does not, and neither does a worker that nobody measured."""
    board = BOARDS[0]
    for peak_bytes, held in ((board.budget_bytes, True), (board.budget_bytes + 1, False), (0, False)):
        boards = (dataclasses.replace(board, peak_bytes=peak_bytes), *BOARDS[1:])
        assert audit.within_budget(boards).held == held
    assert audit.within_budget(BOARDS).figures == "at most 75 % used"


# ------------------------------------------------------------------------------------ aggregate


def test_the_aggregate_is_exact(left: Left) -> None:
    """What the hub published is the dense sum, but for a tail that is not zero here."""
    check = audit.aggregate_is_exact(left.home)
    assert check.held
    assert check.figures.startswith("2 rounds, relative error ")
    cuts = [tail for row in left.versions() for tail, _ in read_made(row).cut.values()]
    assert max(cuts) > 0.01


def _other_ladder(left: Left) -> None:
    version = read_made(left.versions()[3]).version
    rung = version.rungs[0]
    found = read_adapter(left.home.blobs.get(rung.blob), "a rung")
    bent = {name: replace(factors, b=factors.b * np.float32(1.00001)) for name, factors in found.lora.items()}
    name = left.home.blobs.put(to_bytes(replace(found, lora=bent)))
    left.publish(3, rungs=(replace(rung, blob=name), *version.rungs[1:]))


def _cut(factor: float) -> Bend:
    def bend(left: Left) -> None:
        cut = read_made(left.versions()[2]).cut
        slot = max(cut, key=lambda name: cut[name][0])
        changed = {**cut, slot: [factor * cut[slot][0], cut[slot][1]]}
        left.sql("UPDATE versions SET cut = :cut WHERE number = 2", cut=json.dumps(changed))

    return bend


def _other_factors(left: Left) -> None:
    row = left.home.ledger.updates(3, "adapter")[1]
    sent = read_adapter(left.home.blobs.get(row["digest"]), "an update")
    name = next(iter(sent.lora))
    left.resend(row, replace(sent, lora={**sent.lora, name: replace(sent.lora[name], a=sent.lora[name].a + 0.01)}))


AGGREGATES: dict[str, Bend] = {
    "another ladder is published": _other_ladder,
    "the cut is said to be smaller": _cut(0.9),
    "the cut is said to be larger": _cut(1.1),
    "an update weighs more": lambda left: left.sql(
        "UPDATE updates SET samples = samples + 1 WHERE round = 3 AND device = 'mill'"
    ),
    "an update is left out": lambda left: left.sql("DELETE FROM updates WHERE round = 3 AND device = 'barn'"),
    "an update holds other factors": _other_factors,
    "nothing was trained": lambda left: left.sql("DELETE FROM updates WHERE kind = 'adapter'"),
}


@pytest.mark.parametrize("bend", AGGREGATES.values(), ids=AGGREGATES.keys())
def test_an_aggregate_that_is_not_the_sum_is_found(left: Left, bend: Bend) -> None:
    """A small change of what was sent, weighed, published or stated fails the check."""
    bend(left)
    assert not audit.aggregate_is_exact(left.home).held


# ----------------------------------------------------------------------------------------- head


def test_the_head_is_that_of_all_rows_in_one_place(left: Left) -> None:
    """Summed over devices and solved, the statistics give the head of the pooled rows."""
    check = audit.head_is_pooled(left.home, 1, left.pooled)
    assert check.held
    assert check.figures.startswith("relative error ")


def _moved_row(left: Left) -> None:
    features, classes = left.pooled[0]
    left.pooled[0] = (features + np.float32(1e-6), classes)


def _another_class(left: Left) -> None:
    features, classes = left.pooled[1]
    left.pooled[1] = (features, np.concatenate([classes[1:], [(classes[0] + 1) % 3]]))


def _other_statistics(round_number: int) -> Bend:
    def bend(left: Left) -> None:
        row = left.home.ledger.updates(round_number, "statistics")[0]
        sent = read_adapter(left.home.blobs.get(row["digest"]), "statistics")
        bent = {rank: replace(sums, sum=sums.sum * 1.001) for rank, sums in sent.statistics.items()}
        left.resend(row, replace(sent, statistics=bent))

    return bend


def _other_head(number: int, part: str) -> Bend:
    def bend(left: Left) -> None:
        version = read_made(left.versions()[number]).version
        found = read_adapter(left.home.blobs.get(version.head), "heads")
        rank = max(found.heads)
        head = replace(found.heads[rank], **{part: getattr(found.heads[rank], part) * np.float32(1.001)})
        data = to_bytes(replace(found, heads={**found.heads, rank: head}))
        left.publish(number, head=left.home.blobs.put(data), head_bytes=len(data))

    return bend


def _no_head(left: Left) -> None:
    left.publish(4, head="", head_bytes=0)


HEADS: dict[str, Bend] = {
    "the rows differ in the seventh digit": _moved_row,
    "one row has another class": _another_class,
    "rows of one board are missing": lambda left: left.pooled.__delitem__(2),
    "other statistics were sent": _other_statistics(1),
    "other statistics were sent later": _other_statistics(4),
    "statistics of one board are missing": lambda left: left.sql(
        "DELETE FROM updates WHERE round = 1 AND device = 'mill'"
    ),
    "another head is published": _other_head(1, "weight"),
    "another bias is published": _other_head(1, "bias"),
    "another head is published later": _other_head(4, "weight"),
    "no head is published": _no_head,
    "there were no statistics": lambda left: left.sql("DELETE FROM updates WHERE kind = 'statistics'"),
}


@pytest.mark.parametrize("bend", HEADS.values(), ids=HEADS.keys())
def test_a_head_that_is_not_pooled_is_found(left: Left, bend: Bend) -> None:
    """A small change of rows, statistics or of what was published fails the check, in every round of statistics."""
    bend(left)
    assert not audit.head_is_pooled(left.home, 1, left.pooled).held


# ----------------------------------------------------------------------------------- signatures


def test_all_signatures_hold(left: Left) -> None:
    """Five versions, each signed by the hub; a message that was ignored for another reason does not matter."""
    check = audit.signatures_hold(left.home, 4, ["on farm/tiny/up/coop/begin: expected an open round, found 3"])
    assert check.held
    assert check.figures == "5 versions, 4 bundles, 0 messages refused"


def _envelope(make: Callable[[Left, bytes], bytes]) -> Bend:
    def bend(left: Left) -> None:
        envelope = make(left, left.versions()[2]["body"])
        left.sql("UPDATE versions SET envelope = :envelope WHERE number = 2", envelope=envelope)

    return bend


def _bent(left: Left, body: bytes) -> bytes:
    envelope = bytearray(seal(left.home.key, body))
    envelope[len(envelope) // 2] ^= 1
    return bytes(envelope)


def _other_body(left: Left) -> None:
    left.sql("UPDATE versions SET body = :body WHERE number = 2", body=left.versions()[2]["body"] + b"x")


SIGNATURES: dict[str, Bend] = {
    "a flipped bit": _envelope(_bent),
    "a stranger's key": _envelope(lambda left, body: seal(new_key("hub", "hub"), body)),
    "a key of another role": _envelope(lambda left, body: seal(new_key("device", "hub"), body)),
    "the envelope of another version": _envelope(lambda left, body: left.versions()[1]["envelope"]),
    "no envelope at all": _envelope(lambda left, body: body),
    "another body": _other_body,
    "a name that is not the digest": lambda left: left.sql("UPDATE versions SET digest = 'x' WHERE number = 2"),
    "a refused update": lambda left: left.sql("UPDATE receipts SET status = 'refused' WHERE id = 3"),
    "no version": lambda left: left.sql("DELETE FROM versions WHERE 1"),
}


@pytest.mark.parametrize("bend", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_what_is_not_signed_is_found(left: Left, bend: Bend) -> None:
    """An envelope that does not hold, or a refused update, fails the check; nothing of it is an error of ours."""
    bend(left)
    assert not audit.signatures_hold(left.home, 4, []).held


IGNORED = {
    "a stranger": "expected a begin message of coop signed by a trusted device key, found key 12ab; add its .pub",
    "a forger": "expected a begin message of coop as coop signed it, found other bytes; fetch it again",
    "no signature": "expected a begin message of coop with a signature, found none; it was ignored",
    "no envelope": "expected a begin message of coop in a version 1 envelope, found something else; it was ignored",
}


@pytest.mark.parametrize("why", IGNORED.values(), ids=IGNORED.keys())
def test_forged_messages_are_found(left: Left, why: str) -> None:
    """A message that the hub ignored because its signature did not hold fails the check."""
    assert not audit.signatures_hold(left.home, 4, [f"on farm/tiny/up/coop/begin: {why}"]).held


def test_bundles_must_have_been_checked(left: Left) -> None:
    """Without a bundle whose signature was looked at, the check does not hold."""
    assert not audit.signatures_hold(left.home, 0, []).held
